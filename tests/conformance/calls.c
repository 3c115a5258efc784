// SPDX-License-Identifier: GPL-2.0-only
/*
 * The arguments of all ioctls of an iommufd and of a VFIO device node in Linux
 * 7.3, field by field. The program uses no struct of any header: so it can be
 * built with older headers, and pass arguments that no struct could hold.
 */
#include <sys/ioctl.h>

#include "conformance.h"

/* Both families have the type ';'. */
#define NR(nr)		_IO(';', nr)

#define F(_name, _offset, _bytes, _kind) \
	{ .name = _name, .offset = _offset, .bytes = _bytes, .kind = _kind }
#define SIZE		F("size", 0, 4, FIELD_SIZE)

/* A mapping that "world" makes: four pages at this address */
#define MAPPED		"iova=0x10000 length=0x4000"

const struct call calls[] = {
	{
		"DESTROY", IOMMUFD, NR(0x80), 8, 8, "id=b",
		{ SIZE, F("id", 4, 4, FIELD_ID) },
	},
	{
		"IOAS_ALLOC", IOMMUFD, NR(0x81), 12, 12, "",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("out_ioas_id", 8, 4, FIELD_OUT_ID) },
	},
	{
		"ALLOW_IOVAS", IOMMUFD, NR(0x82), 24, 24,
		"ioas_id=a num_iovas=1 allowed_iovas=ranges",
		{ SIZE, F("ioas_id", 4, 4, FIELD_ID),
		  F("num_iovas", 8, 4, FIELD_OUT),
		  F("reserved", 12, 4, FIELD_RESERVED),
		  F("allowed_iovas", 16, 8, FIELD_POINTER) },
	},
	{
		"COPY", IOMMUFD, NR(0x83), 40, 40,
		"flags=fixed|r|w dst_ioas_id=b src_ioas_id=a length=0x4000 dst_iova=0x40000 src_iova=0x10000",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("dst_ioas_id", 8, 4, FIELD_ID),
		  F("src_ioas_id", 12, 4, FIELD_ID),
		  F("length", 16, 8, FIELD_ADDRESS),
		  F("dst_iova", 24, 8, FIELD_ADDRESS),
		  F("src_iova", 32, 8, FIELD_ADDRESS) },
	},
	{
		"IOVA_RANGES", IOMMUFD, NR(0x84), 32, 32,
		"ioas_id=a num_iovas=1 allowed_iovas=ranges",
		{ SIZE, F("ioas_id", 4, 4, FIELD_ID),
		  F("num_iovas", 8, 4, FIELD_NUMBER),
		  F("reserved", 12, 4, FIELD_RESERVED),
		  F("allowed_iovas", 16, 8, FIELD_POINTER),
		  F("out_iova_alignment", 24, 8, FIELD_OUT) },
	},
	{
		"MAP", IOMMUFD, NR(0x85), 40, 40,
		"flags=fixed|r|w ioas_id=a user_va=mem length=0x4000 iova=0x40000",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("ioas_id", 8, 4, FIELD_ID),
		  F("reserved", 12, 4, FIELD_RESERVED),
		  F("user_va", 16, 8, FIELD_POINTER),
		  F("length", 24, 8, FIELD_ADDRESS),
		  F("iova", 32, 8, FIELD_ADDRESS) },
	},
	{
		"UNMAP", IOMMUFD, NR(0x86), 24, 24, "ioas_id=a " MAPPED,
		{ SIZE, F("ioas_id", 4, 4, FIELD_ID),
		  F("iova", 8, 8, FIELD_ADDRESS),
		  F("length", 16, 8, FIELD_ADDRESS) },
	},
	{
		"OPTION", IOMMUFD, NR(0x87), 24, 24,
		"option_id=1 op=1 object_id=a",
		{ SIZE, F("option_id", 4, 4, FIELD_NUMBER),
		  F("op", 8, 2, FIELD_NUMBER),
		  F("reserved", 10, 2, FIELD_RESERVED),
		  F("object_id", 12, 4, FIELD_ID),
		  F("val64", 16, 8, FIELD_NUMBER) },
	},
	{
		"VFIO_IOAS", IOMMUFD, NR(0x88), 12, 12, "op=1 ioas_id=a",
		{ SIZE, F("ioas_id", 4, 4, FIELD_ID),
		  F("op", 8, 2, FIELD_NUMBER),
		  F("reserved", 10, 2, FIELD_RESERVED) },
	},
	{
		"HWPT_ALLOC", IOMMUFD, NR(0x89), 24, 48, "dev_id=dev pt_id=b",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("dev_id", 8, 4, FIELD_ID),
		  F("pt_id", 12, 4, FIELD_ID),
		  F("out_hwpt_id", 16, 4, FIELD_OUT_ID),
		  F("reserved", 20, 4, FIELD_RESERVED),
		  F("data_type", 24, 4, FIELD_NUMBER),
		  F("data_len", 28, 4, FIELD_NUMBER),
		  F("data_uptr", 32, 8, FIELD_POINTER),
		  F("fault_id", 40, 4, FIELD_ID),
		  F("reserved2", 44, 4, FIELD_RESERVED) },
	},
	{
		"GET_HW_INFO", IOMMUFD, NR(0x8a), 32, 40, "dev_id=dev",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("dev_id", 8, 4, FIELD_ID),
		  F("data_len", 12, 4, FIELD_NUMBER),
		  F("data_uptr", 16, 8, FIELD_POINTER),
		  F("data_type", 24, 4, FIELD_NUMBER),
		  F("out_max_pasid_log2", 28, 1, FIELD_OUT),
		  F("reserved0", 29, 1, FIELD_RESERVED),
		  F("reserved12", 30, 2, FIELD_RESERVED),
		  F("out_capabilities", 32, 8, FIELD_OUT) },
	},
	{
		"SET_DIRTY_TRACKING", IOMMUFD, NR(0x8b), 16, 16,
		"flags=1 hwpt_id=hwpt",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("hwpt_id", 8, 4, FIELD_ID),
		  F("reserved", 12, 4, FIELD_RESERVED) },
	},
	{
		"GET_DIRTY_BITMAP", IOMMUFD, NR(0x8c), 48, 48,
		"hwpt_id=hwpt " MAPPED " page_size=0x1000 data=ranges",
		{ SIZE, F("hwpt_id", 4, 4, FIELD_ID),
		  F("flags", 8, 4, FIELD_FLAGS),
		  F("reserved", 12, 4, FIELD_RESERVED),
		  F("iova", 16, 8, FIELD_ADDRESS),
		  F("length", 24, 8, FIELD_ADDRESS),
		  F("page_size", 32, 8, FIELD_ADDRESS),
		  F("data", 40, 8, FIELD_POINTER) },
	},
	{
		"HWPT_INVALIDATE", IOMMUFD, NR(0x8d), 32, 32,
		"hwpt_id=hwpt data_uptr=ranges entry_len=16 entry_num=1",
		{ SIZE, F("hwpt_id", 4, 4, FIELD_ID),
		  F("data_uptr", 8, 8, FIELD_POINTER),
		  F("data_type", 16, 4, FIELD_NUMBER),
		  F("entry_len", 20, 4, FIELD_NUMBER),
		  F("entry_num", 24, 4, FIELD_NUMBER),
		  F("reserved", 28, 4, FIELD_RESERVED) },
	},
	{
		"FAULT_QUEUE_ALLOC", IOMMUFD, NR(0x8e), 16, 16, "",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("out_fault_id", 8, 4, FIELD_OUT_ID),
		  F("out_fault_fd", 12, 4, FIELD_OUT_FD) },
	},
	{
		"MAP_FILE", IOMMUFD, NR(0x8f), 40, 40,
		"flags=fixed|r|w ioas_id=a fd=memfd start=0 length=0x4000 iova=0x40000",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("ioas_id", 8, 4, FIELD_ID),
		  F("fd", 12, 4, FIELD_FD),
		  F("start", 16, 8, FIELD_ADDRESS),
		  F("length", 24, 8, FIELD_ADDRESS),
		  F("iova", 32, 8, FIELD_ADDRESS) },
	},
	{
		"VIOMMU_ALLOC", IOMMUFD, NR(0x90), 24, 40,
		"type=1 dev_id=dev hwpt_id=hwpt",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("type", 8, 4, FIELD_NUMBER),
		  F("dev_id", 12, 4, FIELD_ID),
		  F("hwpt_id", 16, 4, FIELD_ID),
		  F("out_viommu_id", 20, 4, FIELD_OUT_ID),
		  F("data_len", 24, 4, FIELD_NUMBER),
		  F("reserved", 28, 4, FIELD_RESERVED),
		  F("data_uptr", 32, 8, FIELD_POINTER) },
	},
	{
		"VDEVICE_ALLOC", IOMMUFD, NR(0x91), 24, 24,
		"viommu_id=hwpt dev_id=dev",
		{ SIZE, F("viommu_id", 4, 4, FIELD_ID),
		  F("dev_id", 8, 4, FIELD_ID),
		  F("out_vdevice_id", 12, 4, FIELD_OUT_ID),
		  F("virt_id", 16, 8, FIELD_NUMBER) },
	},
	{
		"CHANGE_PROCESS", IOMMUFD, NR(0x92), 8, 8, "",
		{ SIZE, F("reserved", 4, 4, FIELD_RESERVED) },
	},
	{
		"VEVENTQ_ALLOC", IOMMUFD, NR(0x93), 28, 32,
		"viommu_id=hwpt type=1 veventq_depth=16",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("viommu_id", 8, 4, FIELD_ID),
		  F("type", 12, 4, FIELD_NUMBER),
		  F("veventq_depth", 16, 4, FIELD_NUMBER),
		  F("out_veventq_id", 20, 4, FIELD_OUT_ID),
		  F("out_veventq_fd", 24, 4, FIELD_OUT_FD),
		  F("reserved", 28, 4, FIELD_RESERVED) },
	},
	{
		"HW_QUEUE_ALLOC", IOMMUFD, NR(0x94), 40, 40,
		"viommu_id=hwpt type=1 nesting_parent_iova=0x10000 length=0x1000",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("viommu_id", 8, 4, FIELD_ID),
		  F("type", 12, 4, FIELD_NUMBER),
		  F("index", 16, 4, FIELD_NUMBER),
		  F("out_hw_queue_id", 20, 4, FIELD_OUT_ID),
		  F("nesting_parent_iova", 24, 8, FIELD_ADDRESS),
		  F("length", 32, 8, FIELD_ADDRESS) },
	},
	{
		"GET_PA", IOMMUFD, NR(0x95), 40, 40,
		"ioas_id=a iova=0x10000 length=0x1000 #huge",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("ioas_id", 8, 4, FIELD_ID),
		  F("reserved", 12, 4, FIELD_RESERVED),
		  F("iova", 16, 8, FIELD_ADDRESS),
		  F("length", 24, 8, FIELD_ADDRESS),
		  F("out_phys", 32, 8, FIELD_OUT_PA) },
	},

	/* VFIO's type1 container, which an iommufd emulates */
	{ .name = "GET_API_VERSION", .nr = NR(100) },
	{ .name = "CHECK_EXTENSION", .nr = NR(101) },
	{ .name = "SET_IOMMU", .nr = NR(102) },
	{
		/* With both capabilities: DMA_AVAIL, IOVA_RANGE of one range */
		"IOMMU_GET_INFO", IOMMUFD, NR(112), 16, 72, "",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("iova_pgsizes", 8, 8, FIELD_OUT),
		  F("cap_offset", 16, 4, FIELD_OUT),
		  F("pad", 20, 4, FIELD_OUT),
		  F("cap0", 24, 4, FIELD_OUT),
		  F("cap0_next", 28, 4, FIELD_OUT),
		  F("cap0_avail", 32, 4, FIELD_OUT),
		  F("cap1", 40, 4, FIELD_OUT),
		  F("cap1_next", 44, 4, FIELD_OUT),
		  F("cap1_nr_iovas", 48, 4, FIELD_OUT),
		  F("cap1_start", 56, 8, FIELD_OUT),
		  F("cap1_end", 64, 8, FIELD_OUT) },
	},
	{
		"MAP_DMA", IOMMUFD, NR(113), 32, 32,
		"flags=1|2 vaddr=mem iova=0x40000 length=0x4000",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("vaddr", 8, 8, FIELD_POINTER),
		  F("iova", 16, 8, FIELD_ADDRESS),
		  F("length", 24, 8, FIELD_ADDRESS) },
	},
	{
		"UNMAP_DMA", IOMMUFD, NR(114), 24, 24, MAPPED,
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("iova", 8, 8, FIELD_ADDRESS),
		  F("length", 16, 8, FIELD_ADDRESS) },
	},

	/* A VFIO device */
	{
		"GET_INFO", DEVICE, NR(107), 16, 24, "",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("num_regions", 8, 4, FIELD_OUT),
		  F("num_irqs", 12, 4, FIELD_OUT),
		  F("cap_offset", 16, 4, FIELD_OUT) },
	},
	{
		"GET_REGION_INFO", DEVICE, NR(108), 32, 32, "index=0",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("index", 8, 4, FIELD_NUMBER),
		  F("cap_offset", 12, 4, FIELD_OUT),
		  F("length", 16, 8, FIELD_OUT),
		  F("offset", 24, 8, FIELD_OUT) },
	},
	{
		"GET_IRQ_INFO", DEVICE, NR(109), 16, 16, "index=1",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("index", 8, 4, FIELD_NUMBER),
		  F("count", 12, 4, FIELD_OUT) },
	},
	{
		/* DATA_EVENTFD | ACTION_TRIGGER */
		"SET_IRQS", DEVICE, NR(110), 20, 24,
		"flags=0x24 index=1 count=1 data=event",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("index", 8, 4, FIELD_NUMBER),
		  F("start", 12, 4, FIELD_NUMBER),
		  F("count", 16, 4, FIELD_NUMBER),
		  F("data", 20, 4, FIELD_FD) },
	},
	{ .name = "RESET", .target = DEVICE, .nr = NR(111) },
	{
		"HOT_RESET_INFO", DEVICE, NR(112), 12, 28, "",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("count", 8, 4, FIELD_NUMBER),
		  F("id0", 12, 4, FIELD_OUT), F("address0", 16, 4, FIELD_OUT),
		  F("id1", 20, 4, FIELD_OUT), F("address1", 24, 4, FIELD_OUT) },
	},
	{
		"HOT_RESET", DEVICE, NR(113), 12, 16, "",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("count", 8, 4, FIELD_NUMBER),
		  F("fd0", 12, 4, FIELD_FD) },
	},
	{
		/*
		 * Four bytes at the start of BAR 0. Mainline may crash at the
		 * largest offsets. Eight bytes work on older kernels only.
		 */
		"IOEVENTFD", DEVICE, NR(116), 28, 32, "flags=4 fd=event",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("offset", 8, 8, FIELD_NUMBER),
		  F("data", 16, 8, FIELD_NUMBER),
		  F("fd", 24, 4, FIELD_FD),
		  F("reserved", 28, 4, FIELD_RESERVED) },
	},
	{
		/* Probe a feature that does not exist; "feature" has others */
		"FEATURE", DEVICE, NR(117), 8, 32, "flags=0x4ffff",
		{ SIZE, F("flags", 4, 4, FIELD_OUT),
		  F("data", 8, 8, FIELD_NUMBER) },
	},
	{
		"BIND", DEVICE, NR(118), 16, 24, "iommufd=i",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("iommufd", 8, 4, FIELD_FD),
		  F("out_devid", 12, 4, FIELD_OUT_ID),
		  F("token_uuid_ptr", 16, 8, FIELD_POINTER) },
	},
	{
		"ATTACH", DEVICE, NR(119), 12, 16, "pt_id=a",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("pt_id", 8, 4, FIELD_ID),
		  F("pasid", 12, 4, FIELD_NUMBER) },
	},
	{
		"DETACH", DEVICE, NR(120), 8, 12, "",
		{ SIZE, F("flags", 4, 4, FIELD_FLAGS),
		  F("pasid", 8, 4, FIELD_NUMBER) },
	},
};

const unsigned int nr_calls = ARRAY_SIZE(calls);
