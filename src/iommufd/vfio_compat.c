// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO's type1 ioctls on an iommufd. They work on the compatibility IOAS,
 * noiommufd_ctx::vfio_ioas, and so does IOMMU_VFIO_IOAS, which sets it.
 */
#include <linux/vfio.h>

#include "iommufd_private.h"

static struct noiommufd_ioas *
noiommufd_get_compat_ioas(struct noiommufd_ctx *ictx)
{
	struct noiommufd_object *obj;

	xa_lock(&ictx->objects);
	obj = ictx->vfio_ioas;
	if (obj)
		refcount_inc(&obj->refs);
	xa_unlock(&ictx->objects);
	return obj ? to_ioas(obj) : ERR_PTR(-ENODEV);
}

static int noiommufd_set_compat_ioas(struct noiommufd_ctx *ictx, u32 id)
{
	struct noiommufd_object *obj;
	int rc = -ENOENT;

	xa_lock(&ictx->objects);
	obj = xa_load(&ictx->objects, id);
	if (obj && obj->type == IOMMUFD_OBJ_IOAS) {
		ictx->vfio_ioas = obj;
		rc = 0;
	}
	xa_unlock(&ictx->objects);
	return rc;
}

int noiommufd_vfio_ioas(struct noiommufd_ucmd *ucmd)
{
	struct iommu_vfio_ioas *cmd = ucmd->cmd;
	struct noiommufd_ctx *ictx = ucmd->ictx;
	struct noiommufd_ioas *ioas;

	if (cmd->__reserved)
		return -EOPNOTSUPP;

	switch (cmd->op) {
	case IOMMU_VFIO_IOAS_GET:
		ioas = noiommufd_get_compat_ioas(ictx);
		if (IS_ERR(ioas))
			return PTR_ERR(ioas);
		cmd->ioas_id = ioas->obj.id;
		noiommufd_put_ioas(ioas);
		return noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	case IOMMU_VFIO_IOAS_SET:
		return noiommufd_set_compat_ioas(ictx, cmd->ioas_id);
	case IOMMU_VFIO_IOAS_CLEAR:
		xa_lock(&ictx->objects);
		ictx->vfio_ioas = NULL;
		xa_unlock(&ictx->objects);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

/*
 * Page sizes of the table behind mainline's noiommu HWPT. GET_INFO reports none
 * below PAGE_SIZE.
 */
#define IOMMUFD_HWPT_PAGE_SIZES	0xfff7ffffff000ULL

static int noiommufd_vfio_map_dma(struct noiommufd_ioas *ioas, void __user *arg)
{
	const u32 flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	const size_t minsz = offsetofend(struct vfio_iommu_type1_dma_map, size);
	struct vfio_iommu_type1_dma_map map;
	u64 iova;

	if (copy_from_user(&map, arg, minsz))
		return -EFAULT;
	if (map.argsz < minsz || map.flags & ~flags)
		return -EINVAL;
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	/* An HWPT refuses memory that is neither read nor written. */
	if (!map.flags && READ_ONCE(ioas->iopt.nr_hwpts))
		return -EINVAL;

	iova = map.iova;
	return noiommu_map_user_pages(&ioas->iopt, &iova, map.vaddr, map.size,
				      map.flags & VFIO_DMA_MAP_FLAG_WRITE, 0,
				      NULL, NULL);
}

/* Type1 may unmap a part of a mapping: it is cut out first. */
static int noiommufd_vfio_cut(struct io_pagetable *iopt, u64 iova, u64 length)
{
	const u64 last[] = { iova + length - 1, iova - 1 };

	if (!READ_ONCE(iopt->disable_large_pages))
		return 0;
	return noiommu_cut_iova(iopt, last, iova ? 2 : 1);
}

static int noiommufd_vfio_unmap_dma(struct noiommufd_ioas *ioas,
				    void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_iommu_type1_dma_unmap,
					 size);
	struct vfio_iommu_type1_dma_unmap unmap;
	u64 unmapped = 0;
	int rc;

	if (copy_from_user(&unmap, arg, minsz))
		return -EFAULT;
	if (unmap.argsz < minsz || unmap.flags & ~VFIO_DMA_UNMAP_FLAG_ALL)
		return -EINVAL;
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	if (!(unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL)) {
		rc = noiommufd_vfio_cut(&ioas->iopt, unmap.iova, unmap.size);
		if (rc)
			return rc;
		rc = noiommu_unmap_iova(&ioas->iopt, unmap.iova, unmap.size,
					&unmapped);
	} else {
		if (unmap.iova || unmap.size)
			return -EINVAL;
		rc = noiommu_unmap_all(&ioas->iopt, &unmapped);
	}

	unmap.size = unmapped;
	return copy_to_user(arg, &unmap, minsz) ? -EFAULT : rc;
}

static int noiommufd_vfio_check_extension(struct noiommufd_ioas *ioas,
					  unsigned long type)
{
	switch (type) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
	case VFIO_NOIOMMU_IOMMU:
		return 1;
	case VFIO_DMA_CC_IOMMU:
		/* No HWPT of ours can promise it. */
		if (IS_ERR(ioas))
			return PTR_ERR(ioas);
		return !READ_ONCE(ioas->iopt.nr_hwpts);
	default:
		return 0;
	}
}

static int noiommufd_vfio_set_iommu(struct noiommufd_ioas *ioas,
				    unsigned long type)
{
	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU)
		return -EINVAL;
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	/* v1 may unmap parts of mappings, which large pages forbid. */
	return type == VFIO_TYPE1_IOMMU ?
		       noiommu_set_large_pages(&ioas->iopt, false) :
		       0;
}

/* What VFIO_IOMMU_GET_INFO answers, with room for all of it. */
struct noiommufd_vfio_info {
	struct vfio_iommu_type1_info info;
	struct vfio_iommu_type1_info_dma_avail dma_avail __aligned(8);
	struct vfio_iommu_type1_info_cap_iova_range iova __aligned(8);
	struct vfio_iova_range range;
} __aligned(8);

static int noiommufd_vfio_iommu_get_info(struct noiommufd_ioas *ioas,
					 void __user *arg)
{
	const size_t minsz = offsetofend(struct vfio_iommu_type1_info,
					 iova_pgsizes);
	struct noiommufd_vfio_info answer = {
		.info.argsz = sizeof(answer),
		.info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS,
		.info.iova_pgsizes = PAGE_MASK,
		.dma_avail.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
		.dma_avail.header.version = 1,
		.dma_avail.header.next =
			offsetof(struct noiommufd_vfio_info, iova),
		/* As mainline: the limit is on memory, not on mappings. */
		.dma_avail.avail = U32_MAX,
		.iova.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
		.iova.header.version = 1,
		.iova.nr_iovas = 1,
		.range.end = U64_MAX,
	};
	size_t size = sizeof(answer);
	u32 argsz;

	if (get_user(argsz, (u32 __user *)arg))
		return -EFAULT;
	if (argsz < minsz)
		return -EINVAL;
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	if (READ_ONCE(ioas->iopt.nr_hwpts))
		answer.info.iova_pgsizes = (IOMMUFD_HWPT_PAGE_SIZES &
					    PAGE_MASK) | PAGE_SIZE;
	/* Report only the capabilities that fit completely. */
	if (argsz >= size)
		answer.info.cap_offset = sizeof(answer.info);
	else if (argsz >= offsetof(struct noiommufd_vfio_info, iova))
		size = offsetof(struct noiommufd_vfio_info, iova);
	else
		size = min_t(size_t, argsz, sizeof(answer.info));
	return copy_to_user(arg, &answer, size) ? -EFAULT : 0;
}

/**
 * noiommufd_vfio_ioctl() - Handle an ioctl that is not iommufd's.
 * @ictx: context
 * @cmd: its number
 * @arg: its argument
 *
 * Return: as VFIO's container; -ENODEV: there is no compatibility IOAS;
 * -ENOTTY: no such ioctl.
 */
int noiommufd_vfio_ioctl(struct noiommufd_ctx *ictx, unsigned int cmd,
			 unsigned long arg)
{
	struct noiommufd_ioas *ioas = noiommufd_get_compat_ioas(ictx);
	void __user *uarg = (void __user *)arg;
	int rc;

	switch (cmd) {
	case VFIO_GET_API_VERSION:
		rc = VFIO_API_VERSION;
		break;
	case VFIO_CHECK_EXTENSION:
		rc = noiommufd_vfio_check_extension(ioas, arg);
		break;
	case VFIO_SET_IOMMU:
		rc = noiommufd_vfio_set_iommu(ioas, arg);
		break;
	case VFIO_IOMMU_GET_INFO:
		rc = noiommufd_vfio_iommu_get_info(ioas, uarg);
		break;
	case VFIO_IOMMU_MAP_DMA:
		rc = noiommufd_vfio_map_dma(ioas, uarg);
		break;
	case VFIO_IOMMU_UNMAP_DMA:
		rc = noiommufd_vfio_unmap_dma(ioas, uarg);
		break;
	default:
		rc = -ENOTTY;
	}
	if (!IS_ERR(ioas))
		noiommufd_put_ioas(ioas);
	return rc;
}
