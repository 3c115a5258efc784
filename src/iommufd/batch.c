// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOIOMMUFD_IOAS_BATCH: many MAP and UNMAP in one ioctl. Each entry is answered
 * before the next one begins, so what was done is known however it ends.
 */
#include <linux/build_bug.h>
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "iommufd_private.h"
#include "trace.h"

/* The first version, which is accepted for good */
static_assert(sizeof(struct noiommufd_batch_entry) == 64);

/**
 * struct noiommufd_batch - A batch, and the entry that it has come to.
 * @ictx: context
 * @ioas: IOAS of an entry before, which the next one is likely to name; or NULL
 * @may_translate: the program was found to have that right
 * @entry: copy of the entry
 * @user: the entry in user space
 */
struct noiommufd_batch {
	struct noiommufd_ctx *ictx;
	struct noiommufd_ioas *ioas;
	bool may_translate;
	struct noiommufd_batch_entry entry;
	struct noiommufd_batch_entry __user *user;
};

static struct noiommufd_ioas *
noiommufd_batch_get_ioas(struct noiommufd_batch *batch)
{
	struct noiommufd_ioas *ioas = batch->ioas;

	/* Its id may be that of another one by now. */
	if (ioas && ioas->obj.id == batch->entry.ioas_id &&
	    !READ_ONCE(ioas->iopt.destroyed))
		return ioas;
	ioas = noiommufd_get_ioas(batch->ictx, batch->entry.ioas_id);
	if (IS_ERR(ioas))
		return ioas;
	if (batch->ioas)
		noiommufd_put_ioas(batch->ioas);
	batch->ioas = ioas;
	return ioas;
}

static int noiommufd_batch_translate(struct noiommufd_batch *batch,
				     const struct noiommu_area *area)
{
	struct noiommufd_batch_entry *entry = &batch->entry;
	struct iommu_ioas_noiommu_get_pa get = {
		.ioas_id = entry->ioas_id,
		.iova = area->swpt.iova,
		.length = entry->length,
	};
	int rc;

	rc = noiommu_area_get_phys(&batch->ioas->iopt, area, &get.out_phys,
				   &get.length);
	trace_noiommufd_translate(&get, rc);
	entry->phys = get.out_phys;
	entry->phys_length = get.length;
	return rc;
}

/* noiommu_answer_fn */
static int noiommufd_batch_answer_map(void *arg,
				      const struct noiommu_area *area)
{
	struct noiommufd_batch *batch = arg;
	struct noiommufd_batch_entry __user *user = batch->user;
	bool translate = batch->entry.flags & NOIOMMUFD_BATCH_TRANSLATE;
	int rc;

	if (translate) {
		rc = noiommufd_batch_translate(batch, area);
		if (rc)
			return rc;
	}
	if (!user_write_access_begin(user, sizeof(*user)))
		return -EFAULT;
	unsafe_put_user(area->swpt.iova, &user->iova, fault);
	if (translate) {
		unsafe_put_user(batch->entry.phys, &user->phys, fault);
		unsafe_put_user(batch->entry.phys_length, &user->phys_length,
				fault);
	}
	unsafe_put_user(0, &user->error, fault);
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

static int noiommufd_batch_map(struct noiommufd_batch *batch, bool file)
{
	const struct noiommufd_batch_entry *entry = &batch->entry;
	const struct iommu_ioas_map_file cmd = {
		.flags = entry->flags & ~NOIOMMUFD_BATCH_TRANSLATE,
		.ioas_id = entry->ioas_id,
		.fd = entry->fd,
		.start = entry->start,
		.length = entry->length,
		.iova = entry->iova,
	};
	struct noiommufd_ioas *ioas;
	int rc;

	rc = noiommufd_check_map(&cmd);
	if (rc)
		return rc;
	if (entry->flags & NOIOMMUFD_BATCH_TRANSLATE) {
		if (!batch->may_translate)
			batch->may_translate =
				noiommufd_may_translate(batch->ictx);
		if (!batch->may_translate)
			return -EPERM;
		noiommufd_ctx_note(&batch->ictx->translated);
	}
	ioas = noiommufd_batch_get_ioas(batch);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	return noiommufd_map_ioas(ioas, &cmd, file, noiommufd_batch_answer_map,
				  batch);
}

static int noiommufd_batch_unmap(struct noiommufd_batch *batch)
{
	struct noiommufd_ioas *ioas;

	if (batch->entry.flags)
		return -EOPNOTSUPP;
	ioas = noiommufd_batch_get_ioas(batch);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	return noiommufd_unmap_ioas(ioas, batch->entry.iova,
				    &batch->entry.length);
}

static int noiommufd_batch_answer_unmap(struct noiommufd_batch *batch)
{
	struct noiommufd_batch_entry __user *user = batch->user;

	if (put_user(batch->entry.length, &user->length) ||
	    put_user(0, &user->error))
		return -EFAULT;
	return 0;
}

/* Carry an entry out. If it fails, nothing has changed. */
static int noiommufd_batch_do(struct noiommufd_batch *batch)
{
	if (batch->entry.__reserved)
		return -EOPNOTSUPP;

	switch (batch->entry.op) {
	case NOIOMMUFD_BATCH_MAP:
		return noiommufd_batch_map(batch, false);
	case NOIOMMUFD_BATCH_MAP_FILE:
		return noiommufd_batch_map(batch, true);
	case NOIOMMUFD_BATCH_UNMAP:
		return noiommufd_batch_unmap(batch);
	default:
		return -EOPNOTSUPP;
	}
}

/* -EFAULT: it cannot be read; -E2BIG: it has what we do not know. */
static int noiommufd_batch_read(struct noiommufd_batch *batch, u32 size)
{
	if (size != sizeof(batch->entry))
		return copy_struct_from_user(&batch->entry,
					     sizeof(batch->entry), batch->user,
					     size);
	return copy_from_user(&batch->entry, batch->user, size) ? -EFAULT : 0;
}

/*
 * Carry the next entry out, and count it if that was done. Returns an error only
 * if the batch cannot go on: what an entry fails with is its answer.
 */
static int noiommufd_batch_step(struct noiommufd_batch *batch,
				struct noiommufd_ioas_batch *cmd)
{
	int rc;

	batch->user = u64_to_user_ptr(cmd->entries +
				      (u64)cmd->done * cmd->entry_size);
	rc = noiommufd_batch_read(batch, cmd->entry_size);
	if (rc == -EFAULT)
		return rc;
	rc = rc ?: noiommufd_batch_do(batch);
	if (rc == -EINTR)
		return rc;
	if (rc) {
		if (put_user(-rc, &batch->user->error))
			return -EFAULT;
		cmd->failed++;
	}
	cmd->done++;
	if (!rc && batch->entry.op == NOIOMMUFD_BATCH_UNMAP)
		return noiommufd_batch_answer_unmap(batch);
	return 0;
}

static int noiommufd_batch_run(struct noiommufd_batch *batch,
			       struct noiommufd_ioas_batch *cmd)
{
	int rc;

	while (cmd->done < cmd->num) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		rc = noiommufd_batch_step(batch, cmd);
		if (rc)
			return rc;
		if (cmd->failed && !(cmd->flags & NOIOMMUFD_BATCH_CONTINUE))
			break;
	}
	return 0;
}

int noiommufd_ioas_batch(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_batch batch = { .ictx = ucmd->ictx };
	struct noiommufd_ioas_batch *cmd = ucmd->cmd;
	int rc;

	if (cmd->flags & ~NOIOMMUFD_BATCH_CONTINUE)
		return -EOPNOTSUPP;
	if (cmd->entry_size > PAGE_SIZE)
		return -E2BIG;
	if (cmd->entry_size < sizeof(batch.entry) ||
	    cmd->entry_size % sizeof(u64))
		return -EINVAL;
	if (cmd->num > NOIOMMUFD_BATCH_MAX || cmd->done >= cmd->num)
		return -EINVAL;

	/* Do nothing that cannot be reported. */
	cmd->failed = 0;
	rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		return rc;

	rc = noiommufd_batch_run(&batch, cmd);
	if (batch.ioas)
		noiommufd_put_ioas(batch.ioas);
	return noiommufd_ucmd_respond(ucmd, sizeof(*cmd)) ?: rc;
}
