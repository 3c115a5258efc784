// SPDX-License-Identifier: GPL-2.0-only
/*
 * HWPTs. There is no hardware table behind one: it stands for the promise that
 * what its IOAS maps is pinned and can be translated. All HWPTs of an IOAS
 * share the one software page table in its io_pagetable.
 * io_pagetable::hwpt_mutex serialises making them, and one that ends does not
 * take it.
 */
#include <linux/slab.h>

#include "iommufd_private.h"

void noiommufd_hwpt_paging_pre_destroy(struct noiommufd_object *obj)
{
	struct noiommufd_hwpt_paging *hwpt = to_hwpt_paging(obj);
	struct noiommufd_ioas *ioas = hwpt->ioas;

	xa_lock(&obj->ictx->objects);
	if (ioas->auto_hwpt == hwpt)
		ioas->auto_hwpt = NULL;
	xa_unlock(&obj->ictx->objects);
	noiommu_table_remove_hwpt(&ioas->iopt);
	noiommufd_object_unuse(&ioas->obj, false);
	if (hwpt->fault)
		noiommufd_object_unuse(hwpt->fault, false);
}

/* Give an HWPT that is not finalized its fault queue. */
static int noiommufd_hwpt_set_fault(struct noiommufd_hwpt_paging *hwpt, u32 id)
{
	struct noiommufd_object *fault;
	int rc;

	fault = noiommufd_get_object(hwpt->obj.ictx, id, IOMMUFD_OBJ_FAULT);
	if (IS_ERR(fault))
		return PTR_ERR(fault);
	rc = noiommufd_object_use(fault);
	noiommufd_put_object(fault);
	if (!rc)
		hwpt->fault = fault;
	return rc;
}

/* An HWPT and the ioctl that it answers. */
struct noiommufd_hwpt_answer {
	struct noiommufd_hwpt_paging *hwpt;
	struct noiommufd_ucmd *ucmd;
};

static int noiommufd_answer_hwpt(void *arg)
{
	struct noiommufd_hwpt_answer *answer = arg;
	struct iommu_hwpt_alloc *cmd = answer->ucmd->cmd;
	int rc = 0;

	if (cmd->flags & IOMMU_HWPT_FAULT_ID_VALID)
		rc = noiommufd_hwpt_set_fault(answer->hwpt, cmd->fault_id);
	cmd->out_hwpt_id = answer->hwpt->obj.id;
	return rc ?: noiommufd_ucmd_respond(answer->ucmd, sizeof(*cmd));
}

/**
 * noiommufd_hwpt_paging_alloc() - Give an IOAS an HWPT.
 * @ioas: IOAS; the caller holds its hwpt_mutex
 * @ucmd: the IOMMU_HWPT_ALLOC to answer; NULL: the HWPT is destroyed with its
 *	last device
 *
 * Return: the HWPT, to be finalized; -ENOENT: the IOAS was destroyed, or there
 * is no such fault queue; -EFAULT: it cannot be answered; else as
 * noiommu_table_add_hwpt(). On failure nothing has changed.
 */
struct noiommufd_hwpt_paging *
noiommufd_hwpt_paging_alloc(struct noiommufd_ioas *ioas,
			    struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_hwpt_answer answer = { .ucmd = ucmd };
	struct noiommufd_hwpt_paging *hwpt;
	int rc;

	lockdep_assert_held(&ioas->iopt.hwpt_mutex);

	hwpt = noiommufd_object_alloc(ioas->obj.ictx, hwpt,
				      IOMMUFD_OBJ_HWPT_PAGING);
	if (IS_ERR(hwpt))
		return hwpt;

	rc = noiommufd_object_use(&ioas->obj);
	if (rc)
		goto err_abort;
	hwpt->ioas = ioas;
	hwpt->auto_domain = !ucmd;
	answer.hwpt = hwpt;
	rc = noiommu_table_add_hwpt(&ioas->iopt,
				    ucmd ? noiommufd_answer_hwpt : NULL,
				    &answer);
	if (rc)
		goto err_unuse;
	return hwpt;

err_unuse:
	if (hwpt->fault)
		noiommufd_object_unuse(hwpt->fault, false);
	noiommufd_object_unuse(&ioas->obj, false);
err_abort:
	noiommufd_object_abort(&hwpt->obj);
	return ERR_PTR(rc);
}

static int noiommufd_hwpt_alloc_ioas(struct noiommufd_ucmd *ucmd,
				     struct noiommufd_ioas *ioas)
{
	struct iommu_hwpt_alloc *cmd = ucmd->cmd;
	struct noiommufd_hwpt_paging *hwpt;
	int rc;

	/* Neither nesting nor dirty tracking without an IOMMU. */
	if (cmd->flags & ~IOMMU_HWPT_FAULT_ID_VALID || cmd->data_len)
		return -EOPNOTSUPP;

	rc = mutex_lock_killable(&ioas->iopt.hwpt_mutex);
	if (rc)
		return rc;
	hwpt = noiommufd_hwpt_paging_alloc(ioas, ucmd);
	mutex_unlock(&ioas->iopt.hwpt_mutex);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	noiommufd_object_finalize(&hwpt->obj);
	return 0;
}

int noiommufd_hwpt_alloc(struct noiommufd_ucmd *ucmd)
{
	struct iommu_hwpt_alloc *cmd = ucmd->cmd;
	struct noiommufd_object *dev_obj, *pt_obj;
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;
	if (!cmd->data_type != !cmd->data_len)
		return -EINVAL;

	dev_obj = noiommufd_get_object(ucmd->ictx, cmd->dev_id,
				       IOMMUFD_OBJ_DEVICE);
	if (IS_ERR(dev_obj))
		return PTR_ERR(dev_obj);
	pt_obj = noiommufd_get_object(ucmd->ictx, cmd->pt_id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(pt_obj)) {
		rc = -EINVAL;
		goto out_put_dev;
	}

	switch (pt_obj->type) {
	case IOMMUFD_OBJ_IOAS:
		rc = noiommufd_hwpt_alloc_ioas(ucmd, to_ioas(pt_obj));
		break;
	case IOMMUFD_OBJ_HWPT_PAGING:
		/* A nested HWPT. */
		rc = -EOPNOTSUPP;
		break;
	default:
		rc = -EINVAL;
	}
	noiommufd_put_object(pt_obj);
out_put_dev:
	noiommufd_put_object(dev_obj);
	return rc;
}
