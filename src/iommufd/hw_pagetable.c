// SPDX-License-Identifier: GPL-2.0-only
/*
 * HWPTs. There is no hardware table behind one: it stands for the promise that
 * what its IOAS maps is pinned, and can be looked up. All HWPTs of an IOAS share
 * the one software page table in its io_pagetable. io_pagetable::hwpt_mutex
 * serialises making them, and one that ends does not take it.
 */
#include <linux/slab.h>

#include "iommufd_private.h"

void iommufd_hwpt_paging_pre_destroy(struct iommufd_object *obj)
{
	struct iommufd_hwpt_paging *hwpt = to_hwpt_paging(obj);
	struct iommufd_ioas *ioas = hwpt->ioas;

	xa_lock(&obj->ictx->objects);
	if (ioas->auto_hwpt == hwpt)
		ioas->auto_hwpt = NULL;
	xa_unlock(&obj->ictx->objects);
	iopt_table_remove_hwpt(&ioas->iopt);
	iommufd_object_unuse(&ioas->obj, false);
	if (hwpt->fault)
		iommufd_object_unuse(hwpt->fault, false);
}

/* The fault queue of an HWPT that is not finalized. */
static int iommufd_hwpt_set_fault(struct iommufd_hwpt_paging *hwpt, u32 id)
{
	struct iommufd_object *fault;
	int rc;

	fault = iommufd_get_object(hwpt->obj.ictx, id, IOMMUFD_OBJ_FAULT);
	if (IS_ERR(fault))
		return PTR_ERR(fault);
	rc = iommufd_object_use(fault);
	iommufd_put_object(fault);
	if (!rc)
		hwpt->fault = fault;
	return rc;
}

/* An HWPT, and the call that it is the answer to. */
struct iommufd_hwpt_answer {
	struct iommufd_hwpt_paging *hwpt;
	struct iommufd_ucmd *ucmd;
};

static int iommufd_answer_hwpt(void *arg)
{
	struct iommufd_hwpt_answer *answer = arg;
	struct iommu_hwpt_alloc *cmd = answer->ucmd->cmd;
	int rc = 0;

	if (cmd->flags & IOMMU_HWPT_FAULT_ID_VALID)
		rc = iommufd_hwpt_set_fault(answer->hwpt, cmd->fault_id);
	cmd->out_hwpt_id = answer->hwpt->obj.id;
	return rc ?: iommufd_ucmd_respond(answer->ucmd, sizeof(*cmd));
}

/**
 * iommufd_hwpt_paging_alloc() - give an IOAS an HWPT
 * @ioas: IOAS; the caller holds its hwpt_mutex
 * @ucmd: IOMMU_HWPT_ALLOC, which is answered; NULL: the HWPT goes with the last
 *	device
 *
 * Return: HWPT, to be finalized; -ENOENT: the IOAS was destroyed, or there is no
 * such fault queue; -EFAULT: it cannot be answered; else as iopt_table_add_hwpt().
 * On failure nothing has changed.
 */
struct iommufd_hwpt_paging *iommufd_hwpt_paging_alloc(struct iommufd_ioas *ioas,
						      struct iommufd_ucmd *ucmd)
{
	struct iommufd_hwpt_answer answer = { .ucmd = ucmd };
	struct iommufd_hwpt_paging *hwpt;
	int rc;

	lockdep_assert_held(&ioas->iopt.hwpt_mutex);

	hwpt = iommufd_object_alloc(ioas->obj.ictx, hwpt,
				    IOMMUFD_OBJ_HWPT_PAGING);
	if (IS_ERR(hwpt))
		return hwpt;

	rc = iommufd_object_use(&ioas->obj);
	if (rc)
		goto err_abort;
	hwpt->ioas = ioas;
	hwpt->auto_domain = !ucmd;
	answer.hwpt = hwpt;
	rc = iopt_table_add_hwpt(&ioas->iopt, ucmd ? iommufd_answer_hwpt : NULL,
				 &answer);
	if (rc)
		goto err_unuse;
	return hwpt;

err_unuse:
	if (hwpt->fault)
		iommufd_object_unuse(hwpt->fault, false);
	iommufd_object_unuse(&ioas->obj, false);
err_abort:
	iommufd_object_abort(&hwpt->obj);
	return ERR_PTR(rc);
}

static int iommufd_hwpt_alloc_ioas(struct iommufd_ucmd *ucmd,
				   struct iommufd_ioas *ioas)
{
	struct iommu_hwpt_alloc *cmd = ucmd->cmd;
	struct iommufd_hwpt_paging *hwpt;
	int rc;

	/* Neither nesting nor dirty tracking without an IOMMU. */
	if (cmd->flags & ~IOMMU_HWPT_FAULT_ID_VALID || cmd->data_len)
		return -EOPNOTSUPP;

	rc = mutex_lock_killable(&ioas->iopt.hwpt_mutex);
	if (rc)
		return rc;
	hwpt = iommufd_hwpt_paging_alloc(ioas, ucmd);
	mutex_unlock(&ioas->iopt.hwpt_mutex);
	if (IS_ERR(hwpt))
		return PTR_ERR(hwpt);
	iommufd_object_finalize(&hwpt->obj);
	return 0;
}

int iommufd_hwpt_alloc(struct iommufd_ucmd *ucmd)
{
	struct iommu_hwpt_alloc *cmd = ucmd->cmd;
	struct iommufd_object *dev_obj, *pt_obj;
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;
	if (!cmd->data_type != !cmd->data_len)
		return -EINVAL;

	dev_obj = iommufd_get_object(ucmd->ictx, cmd->dev_id,
				     IOMMUFD_OBJ_DEVICE);
	if (IS_ERR(dev_obj))
		return PTR_ERR(dev_obj);
	pt_obj = iommufd_get_object(ucmd->ictx, cmd->pt_id, IOMMUFD_OBJ_ANY);
	if (IS_ERR(pt_obj)) {
		rc = -EINVAL;
		goto out_put_dev;
	}

	switch (pt_obj->type) {
	case IOMMUFD_OBJ_IOAS:
		rc = iommufd_hwpt_alloc_ioas(ucmd, to_ioas(pt_obj));
		break;
	case IOMMUFD_OBJ_HWPT_PAGING:
		/* A nested HWPT. */
		rc = -EOPNOTSUPP;
		break;
	default:
		rc = -EINVAL;
	}
	iommufd_put_object(pt_obj);
out_put_dev:
	iommufd_put_object(dev_obj);
	return rc;
}
