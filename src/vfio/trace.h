/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of noiommu-vfio-pci.ko, beside those of noiommufd.ko. @start is
 * what noiommufd_trace_start() returned. No include guard, as there.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM noiommufd

#include <linux/ktime.h>
#include <linux/pci.h>
#include <linux/tracepoint.h>

/* @id: of the device in its context, or of the HWPT */
DECLARE_EVENT_CLASS(noiommufd_device_id,
		    TP_PROTO(struct pci_dev *pdev, u32 id, int rc, u64 start),
		    TP_ARGS(pdev, id, rc, start),
		    TP_STRUCT__entry(__field(u32, domain)
				     __field(u8, bus)
				     __field(u8, devfn)
				     __field(u32, id)
				     __field(int, rc)
				     __field(u64, ns)),
		    TP_fast_assign(__entry->domain = pci_domain_nr(pdev->bus);
				   __entry->bus = pdev->bus->number;
				   __entry->devfn = pdev->devfn;
				   __entry->id = id;
				   __entry->rc = rc;
				   __entry->ns = start ? ktime_get_ns() - start : 0;),
		    TP_printk("device=%04x:%02x:%02x.%x id=%u rc=%d ns=%llu",
			      __entry->domain, __entry->bus, __entry->devfn >> 3,
			      __entry->devfn & 7, __entry->id, __entry->rc, __entry->ns));

DEFINE_EVENT(noiommufd_device_id, noiommufd_bind,
	     TP_PROTO(struct pci_dev *pdev, u32 id, int rc, u64 start),
	     TP_ARGS(pdev, id, rc, start));

DEFINE_EVENT(noiommufd_device_id, noiommufd_attach,
	     TP_PROTO(struct pci_dev *pdev, u32 id, int rc, u64 start),
	     TP_ARGS(pdev, id, rc, start));

DECLARE_EVENT_CLASS(noiommufd_device,
		    TP_PROTO(struct pci_dev *pdev, int rc, u64 start),
		    TP_ARGS(pdev, rc, start),
		    TP_STRUCT__entry(__field(u32, domain)
				     __field(u8, bus)
				     __field(u8, devfn)
				     __field(int, rc)
				     __field(u64, ns)),
		    TP_fast_assign(__entry->domain = pci_domain_nr(pdev->bus);
				   __entry->bus = pdev->bus->number;
				   __entry->devfn = pdev->devfn;
				   __entry->rc = rc;
				   __entry->ns = start ? ktime_get_ns() - start : 0;),
		    TP_printk("device=%04x:%02x:%02x.%x rc=%d ns=%llu",
			      __entry->domain, __entry->bus, __entry->devfn >> 3,
			      __entry->devfn & 7, __entry->rc, __entry->ns));

DEFINE_EVENT(noiommufd_device, noiommufd_reset,
	     TP_PROTO(struct pci_dev *pdev, int rc, u64 start),
	     TP_ARGS(pdev, rc, start));

DEFINE_EVENT(noiommufd_device, noiommufd_hot_reset,
	     TP_PROTO(struct pci_dev *pdev, int rc, u64 start),
	     TP_ARGS(pdev, rc, start));

DEFINE_EVENT(noiommufd_device, noiommufd_quiesce,
	     TP_PROTO(struct pci_dev *pdev, int rc, u64 start),
	     TP_ARGS(pdev, rc, start));

DEFINE_EVENT(noiommufd_device, noiommufd_close,
	     TP_PROTO(struct pci_dev *pdev, int rc, u64 start),
	     TP_ARGS(pdev, rc, start));

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
