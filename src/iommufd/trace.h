/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of noiommufd.ko. One that may take long has a duration: @start is
 * what noiommufd_trace_start() returned.
 *
 * There is no include guard, because <trace/define_trace.h> reads this file
 * again and again. Other files include it once, themselves.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM noiommufd

#include <linux/ktime.h>
#include <linux/tracepoint.h>

#include "iommufd_private.h"

TRACE_EVENT(noiommufd_map,
	    TP_PROTO(struct io_pagetable *iopt, u64 iova, u64 length, int rc,
		     u64 start),
	    TP_ARGS(iopt, iova, length, rc, start),
	    TP_STRUCT__entry(__field(u32, ioas)
			     __field(u64, iova)
			     __field(u64, length)
			     __field(int, rc)
			     __field(u64, ns)),
	    TP_fast_assign(__entry->ioas = noiommufd_ioas_of(iopt)->obj.id;
			   __entry->iova = iova;
			   __entry->length = length;
			   __entry->rc = rc;
			   __entry->ns = start ? ktime_get_ns() - start : 0;),
	    TP_printk("ioas=%u iova=0x%llx length=0x%llx rc=%d ns=%llu",
		      __entry->ioas, __entry->iova, __entry->length, __entry->rc,
		      __entry->ns));

TRACE_EVENT(noiommufd_unmap,
	    TP_PROTO(struct io_pagetable *iopt, u64 iova, u64 last, u64 unmapped,
		     int rc, u64 start),
	    TP_ARGS(iopt, iova, last, unmapped, rc, start),
	    TP_STRUCT__entry(__field(u32, ioas)
			     __field(u64, iova)
			     __field(u64, last)
			     __field(u64, unmapped)
			     __field(int, rc)
			     __field(u64, ns)),
	    TP_fast_assign(__entry->ioas = noiommufd_ioas_of(iopt)->obj.id;
			   __entry->iova = iova;
			   __entry->last = last;
			   __entry->unmapped = unmapped;
			   __entry->rc = rc;
			   __entry->ns = start ? ktime_get_ns() - start : 0;),
	    TP_printk("ioas=%u iova=0x%llx last=0x%llx unmapped=0x%llx rc=%d ns=%llu",
		      __entry->ioas, __entry->iova, __entry->last,
		      __entry->unmapped, __entry->rc, __entry->ns));

/* Pages that no other area had pinned, or has; @rc is 0 for unpin. */
DECLARE_EVENT_CLASS(noiommufd_pages,
		    TP_PROTO(struct noiommu_area *area, u64 npages, int rc, u64 start),
		    TP_ARGS(area, npages, rc, start),
		    TP_STRUCT__entry(__field(u64, iova)
				     __field(u64, length)
				     __field(u64, npages)
				     __field(int, rc)
				     __field(u64, ns)),
		    TP_fast_assign(__entry->iova = area->swpt.iova;
				   __entry->length = noiommu_area_length(area);
				   __entry->npages = npages;
				   __entry->rc = rc;
				   __entry->ns = start ? ktime_get_ns() - start : 0;),
		    TP_printk("iova=0x%llx length=0x%llx pages=%llu rc=%d ns=%llu",
			      __entry->iova, __entry->length, __entry->npages, __entry->rc,
			      __entry->ns));

DEFINE_EVENT(noiommufd_pages, noiommufd_pin,
	     TP_PROTO(struct noiommu_area *area, u64 npages, int rc, u64 start),
	     TP_ARGS(area, npages, rc, start));

DEFINE_EVENT(noiommufd_pages, noiommufd_unpin,
	     TP_PROTO(struct noiommu_area *area, u64 npages, int rc, u64 start),
	     TP_ARGS(area, npages, rc, start));

TRACE_EVENT(noiommufd_translate,
	    TP_PROTO(const struct iommu_ioas_noiommu_get_pa *cmd, int rc),
	    TP_ARGS(cmd, rc),
	    TP_STRUCT__entry(__field(u32, ioas)
			     __field(u64, iova)
			     __field(u64, length)
			     __field(u64, phys)
			     __field(int, rc)),
	    TP_fast_assign(__entry->ioas = cmd->ioas_id;
			   __entry->iova = cmd->iova;
			   __entry->length = cmd->length;
			   __entry->phys = rc ? 0 : cmd->out_phys;
			   __entry->rc = rc;),
	    TP_printk("ioas=%u iova=0x%llx length=0x%llx phys=0x%llx rc=%d",
		      __entry->ioas, __entry->iova, __entry->length, __entry->phys,
		      __entry->rc));

TRACE_EVENT(noiommufd_translate_runs,
	    TP_PROTO(const struct noiommufd_ioas_get_pa_runs *cmd, int rc,
		     u64 start),
	    TP_ARGS(cmd, rc, start),
	    TP_STRUCT__entry(__field(u32, ioas)
			     __field(u64, iova)
			     __field(u64, length)
			     __field(u32, runs)
			     __field(int, rc)
			     __field(u64, ns)),
	    TP_fast_assign(__entry->ioas = cmd->ioas_id;
			   __entry->iova = cmd->iova;
			   __entry->length = cmd->length;
			   __entry->runs = rc ? 0 : cmd->num_runs;
			   __entry->rc = rc;
			   __entry->ns = start ? ktime_get_ns() - start : 0;),
	    TP_printk("ioas=%u iova=0x%llx length=0x%llx runs=%u rc=%d ns=%llu",
		      __entry->ioas, __entry->iova, __entry->length, __entry->runs,
		      __entry->rc, __entry->ns));

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
