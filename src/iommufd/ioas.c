// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ioctls on an IO address space. They check arguments; io_pagetable.c does
 * the work and takes the locks.
 */
#include <linux/build_bug.h>
#include <linux/overflow.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "iommufd_private.h"
#include "trace.h"

void noiommufd_ioas_pre_destroy(struct noiommufd_object *obj)
{
	noiommu_shut_table(&to_ioas(obj)->iopt);
}

void noiommufd_ioas_destroy(struct noiommufd_object *obj)
{
	noiommu_destroy_table(&to_ioas(obj)->iopt);
}

int noiommufd_ioas_alloc_ioctl(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_alloc *cmd = ucmd->cmd;
	struct noiommufd_ioas *ioas;
	int rc;

	if (cmd->flags)
		return -EOPNOTSUPP;

	ioas = noiommufd_object_alloc(ucmd->ictx, ioas, IOMMUFD_OBJ_IOAS);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	noiommu_init_table(&ioas->iopt, ucmd->ictx);

	cmd->out_ioas_id = ioas->obj.id;
	rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (rc)
		noiommufd_object_abort(&ioas->obj);
	else
		noiommufd_object_finalize(&ioas->obj);
	return rc;
}

int noiommufd_ioas_iova_ranges(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_iova_ranges *cmd = ucmd->cmd;
	/* Without an IOMMU every IOVA is usable. */
	const struct iommu_iova_range all = { .last = U64_MAX };
	struct noiommufd_ioas *ioas;
	bool room = cmd->num_iovas;
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;

	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	cmd->num_iovas = 1;
	rc = down_read_killable(&ioas->iopt.iova_rwsem);
	if (rc)
		goto out_put;
	cmd->out_iova_alignment = noiommu_iova_alignment(&ioas->iopt);
	up_read(&ioas->iopt.iova_rwsem);

	if (room && copy_to_user(u64_to_user_ptr(cmd->allowed_iovas), &all,
				 sizeof(all)))
		rc = -EFAULT;
	if (!rc)
		rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	if (!rc && !room)
		rc = -EMSGSIZE;
out_put:
	noiommufd_put_ioas(ioas);
	return rc;
}

static int noiommufd_ioas_load_iovas(struct rb_root_cached *itree,
				     struct iommu_iova_range __user *ranges,
				     u32 num)
{
	struct iommu_iova_range range;
	u32 i;
	int rc;

	for (i = 0; i < num; i++) {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
		if (copy_from_user(&range, ranges + i, sizeof(range)))
			return -EFAULT;
		rc = noiommu_add_allowed(itree, range.start, range.last);
		if (rc)
			return rc;
	}
	return 0;
}

int noiommufd_ioas_allow_iovas(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_allow_iovas *cmd = ucmd->cmd;
	struct rb_root_cached itree = RB_ROOT_CACHED;
	struct noiommufd_ioas *ioas;
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;

	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	rc = noiommufd_ioas_load_iovas(&itree,
				       u64_to_user_ptr(cmd->allowed_iovas),
				       cmd->num_iovas);
	if (!rc)
		rc = noiommu_set_allow_iova(&ioas->iopt, &itree);
	noiommu_free_allowed(&itree);
	noiommufd_put_ioas(ioas);
	return rc;
}

/* What MAP and COPY require of their flags. */
static int noiommufd_check_map_flags(u32 flags)
{
	const u32 prot = IOMMU_IOAS_MAP_WRITEABLE | IOMMU_IOAS_MAP_READABLE;

	if (flags & ~(IOMMU_IOAS_MAP_FIXED_IOVA | prot))
		return -EOPNOTSUPP;
	return flags & prot ? 0 : -EINVAL;
}

static unsigned int noiommufd_iopt_flags(u32 flags)
{
	return flags & IOMMU_IOAS_MAP_FIXED_IOVA ? 0 : IOPT_ALLOC_IOVA;
}

/*
 * MAP_FILE has the fields of MAP, with its fd in place of the reserved bytes.
 */
static_assert(sizeof(struct iommu_ioas_map) ==
	      sizeof(struct iommu_ioas_map_file));
static_assert(offsetof(struct iommu_ioas_map, user_va) ==
	      offsetof(struct iommu_ioas_map_file, start));
static_assert(offsetof(struct iommu_ioas_map, iova) ==
	      offsetof(struct iommu_ioas_map_file, iova));

static int noiommufd_answer_map(void *arg, const struct noiommu_area *area)
{
	struct noiommufd_ucmd *ucmd = arg;
	struct iommu_ioas_map_file __user *user = ucmd->ubuffer;

	return put_user(area->swpt.iova, &user->iova);
}

/**
 * noiommufd_check_map() - Check what MAP and MAP_FILE are given.
 * @cmd: arguments; those of MAP as of MAP_FILE
 *
 * Return: 0, -EOPNOTSUPP, -EOVERFLOW or -EINVAL.
 */
int noiommufd_check_map(const struct iommu_ioas_map_file *cmd)
{
	int rc = noiommufd_check_map_flags(cmd->flags);

	if (rc == -EOPNOTSUPP)
		return rc;
	if (cmd->iova >= ULONG_MAX || cmd->length >= ULONG_MAX)
		return -EOVERFLOW;
	return rc;
}

/**
 * noiommufd_map_ioas() - Map memory.
 * @ioas: IOAS
 * @cmd: arguments, as noiommufd_check_map() has accepted them
 * @file: of a file, not of the process
 * @answer: see noiommu_map_areas()
 * @arg: for @answer
 *
 * Return: as noiommu_map_user_pages() or noiommu_map_file_pages().
 */
int noiommufd_map_ioas(struct noiommufd_ioas *ioas,
		       const struct iommu_ioas_map_file *cmd, bool file,
		       noiommu_answer_fn answer, void *arg)
{
	bool writable = cmd->flags & IOMMU_IOAS_MAP_WRITEABLE;
	unsigned int flags = noiommufd_iopt_flags(cmd->flags);
	u64 iova = cmd->iova;
	int rc;

	if (file)
		rc = noiommu_map_file_pages(&ioas->iopt, &iova, cmd->fd,
					    cmd->start, cmd->length, writable,
					    flags, answer, arg);
	else
		rc = noiommu_map_user_pages(&ioas->iopt, &iova, cmd->start,
					    cmd->length, writable, flags,
					    answer, arg);
	if (!rc && flags & IOPT_ALLOC_IOVA)
		noiommufd_ctx_note(&ioas->obj.ictx->auto_iova);
	return rc;
}

static int noiommufd_map(struct noiommufd_ucmd *ucmd, bool file)
{
	struct iommu_ioas_map_file *cmd = ucmd->cmd;
	struct noiommufd_ioas *ioas;
	int rc;

	rc = noiommufd_check_map(cmd);
	if (rc)
		return rc;

	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	rc = noiommufd_map_ioas(ioas, cmd, file, noiommufd_answer_map, ucmd);
	noiommufd_put_ioas(ioas);
	return rc;
}

int noiommufd_ioas_map(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_map *cmd = ucmd->cmd;

	return cmd->__reserved ? -EOPNOTSUPP : noiommufd_map(ucmd, false);
}

int noiommufd_ioas_map_file(struct noiommufd_ucmd *ucmd)
{
	return noiommufd_map(ucmd, true);
}

static int noiommufd_answer_copy(void *arg, const struct noiommu_area *area)
{
	struct noiommufd_ucmd *ucmd = arg;
	struct iommu_ioas_copy *cmd = ucmd->cmd;

	cmd->dst_iova = area->swpt.iova;
	return noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/* An IOVA that is the physical address needs no GET_PA. */
static void noiommufd_note_copy(struct noiommufd_ioas *ioas,
				const struct iommu_ioas_copy *cmd)
{
	struct noiommufd_ctx *ictx = ioas->obj.ictx;
	u64 phys, length = 1;

	if (!(cmd->flags & IOMMU_IOAS_MAP_FIXED_IOVA))
		noiommufd_ctx_note(&ictx->auto_iova);
	else if (!READ_ONCE(ictx->translated) &&
		 !noiommu_get_phys(&ioas->iopt, cmd->dst_iova, &phys,
				   &length) &&
		 phys == cmd->dst_iova)
		noiommufd_ctx_note(&ictx->translated);
}

int noiommufd_ioas_copy(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_copy *cmd = ucmd->cmd;
	int flags_rc = noiommufd_check_map_flags(cmd->flags);
	struct noiommufd_ioas *src, *dst;
	u64 iova = cmd->dst_iova;
	LIST_HEAD(areas);
	int rc;

	if (flags_rc == -EOPNOTSUPP)
		return flags_rc;
	if (cmd->length >= ULONG_MAX || cmd->src_iova >= ULONG_MAX ||
	    cmd->dst_iova >= ULONG_MAX)
		return -EOVERFLOW;
	if (flags_rc)
		return flags_rc;

	src = noiommufd_get_ioas(ucmd->ictx, cmd->src_ioas_id);
	if (IS_ERR(src))
		return PTR_ERR(src);
	rc = noiommu_clone_areas(&src->iopt, cmd->src_iova, cmd->length,
				 &areas);
	noiommufd_put_ioas(src);
	if (rc)
		return rc;

	dst = noiommufd_get_ioas(ucmd->ictx, cmd->dst_ioas_id);
	if (IS_ERR(dst)) {
		noiommu_free_areas(&areas);
		return PTR_ERR(dst);
	}
	rc = noiommu_map_areas(&dst->iopt, &areas, cmd->length, &iova,
			       cmd->flags & IOMMU_IOAS_MAP_WRITEABLE,
			       noiommufd_iopt_flags(cmd->flags),
			       noiommufd_answer_copy, ucmd);
	if (rc)
		noiommu_free_areas(&areas);
	else
		noiommufd_note_copy(dst, cmd);
	noiommufd_put_ioas(dst);
	return rc;
}

/**
 * noiommufd_unmap_ioas() - Unmap whole areas.
 * @ioas: IOAS
 * @iova: first IOVA
 * @length: in: bytes; with U64_MAX and IOVA 0 all areas; out: bytes that were
 *	mapped, if this succeeds
 *
 * Return: as noiommu_unmap_iova(); -ENOENT as well if nothing was mapped, unless
 * all was to be unmapped.
 */
int noiommufd_unmap_ioas(struct noiommufd_ioas *ioas, u64 iova, u64 *length)
{
	u64 unmapped = 0;
	int rc;

	if (!iova && *length == U64_MAX)
		rc = noiommu_unmap_all(&ioas->iopt, &unmapped);
	else if (iova >= ULONG_MAX || *length >= ULONG_MAX)
		rc = -EOVERFLOW;
	else
		rc = noiommu_unmap_iova(&ioas->iopt, iova, *length, &unmapped);
	if (!rc && !unmapped && *length != U64_MAX)
		rc = -ENOENT;
	if (!rc)
		*length = unmapped;
	return rc;
}

int noiommufd_ioas_unmap(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_unmap *cmd = ucmd->cmd;
	struct noiommufd_ioas *ioas;
	int rc;

	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	rc = noiommufd_unmap_ioas(ioas, cmd->iova, &cmd->length);
	if (!rc)
		rc = noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
	noiommufd_put_ioas(ioas);
	return rc;
}

/*
 * Translate without writing to shared memory; -EAGAIN if a writer interferes.
 */
static int noiommufd_ioas_get_pa_rcu(struct noiommufd_ctx *ictx,
				     struct iommu_ioas_noiommu_get_pa *cmd)
{
	struct noiommufd_object *obj;
	int rc = -ENOENT;

	rcu_read_lock();
	obj = xa_load(&ictx->objects, cmd->ioas_id);
	if (obj && obj->type == IOMMUFD_OBJ_IOAS)
		rc = noiommu_get_phys_rcu(&to_ioas(obj)->iopt, cmd->iova,
					  &cmd->out_phys, &cmd->length);
	rcu_read_unlock();
	return rc;
}

/* The same, with a lock */
static int noiommufd_ioas_get_pa_locked(struct noiommufd_ctx *ictx,
					struct iommu_ioas_noiommu_get_pa *cmd)
{
	struct noiommufd_ioas *ioas;
	int rc;

	ioas = noiommufd_get_ioas(ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	rc = noiommu_get_phys(&ioas->iopt, cmd->iova, &cmd->out_phys,
			      &cmd->length);
	noiommufd_put_ioas(ioas);
	return rc;
}

static int noiommufd_ioas_get_pa(struct noiommufd_ctx *ictx,
				 struct iommu_ioas_noiommu_get_pa *cmd)
{
	int rc;

	if (!noiommufd_may_translate(ictx))
		return -EPERM;
	if (cmd->flags || cmd->__reserved)
		return -EOPNOTSUPP;
	if (!cmd->length)
		return -EINVAL;
	if (cmd->iova >= ULONG_MAX)
		return -EOVERFLOW;

	noiommufd_ctx_note(&ictx->translated);
	rc = noiommufd_ioas_get_pa_rcu(ictx, cmd);
	if (unlikely(rc == -EAGAIN))
		rc = noiommufd_ioas_get_pa_locked(ictx, cmd);
	trace_noiommufd_translate(cmd, rc);
	return rc;
}

int noiommufd_ioas_noiommu_get_pa(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_noiommu_get_pa *cmd = ucmd->cmd;
	int rc = noiommufd_ioas_get_pa(ucmd->ictx, cmd);

	return rc ?: noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

/**
 * noiommufd_ioas_get_pa_fast() - IOMMU_IOAS_NOIOMMU_GET_PA for a struct of
 * exactly the size we know.
 * @ictx: context
 * @arg: the user's struct
 *
 * A program calls GET_PA for each page, and accessing the fields one by one
 * saves a third of its instructions.
 *
 * Return: the result of the ioctl; -EAGAIN: use the generic path.
 */
int noiommufd_ioas_get_pa_fast(struct noiommufd_ctx *ictx,
			       struct iommu_ioas_noiommu_get_pa __user *arg)
{
	struct iommu_ioas_noiommu_get_pa cmd;
	int rc;

	if (!user_read_access_begin(arg, sizeof(*arg)))
		return -EAGAIN;
	unsafe_get_user(cmd.size, &arg->size, read_fault);
	unsafe_get_user(cmd.flags, &arg->flags, read_fault);
	unsafe_get_user(cmd.ioas_id, &arg->ioas_id, read_fault);
	unsafe_get_user(cmd.__reserved, &arg->__reserved, read_fault);
	unsafe_get_user(cmd.iova, &arg->iova, read_fault);
	unsafe_get_user(cmd.length, &arg->length, read_fault);
	user_read_access_end();
	if (cmd.size != sizeof(cmd))
		return -EAGAIN;

	rc = noiommufd_ioas_get_pa(ictx, &cmd);
	if (rc)
		return rc;

	if (!user_write_access_begin(arg, sizeof(*arg)))
		return -EFAULT;
	unsafe_put_user(cmd.length, &arg->length, write_fault);
	unsafe_put_user(cmd.out_phys, &arg->out_phys, write_fault);
	user_write_access_end();
	return 0;

read_fault:
	user_read_access_end();
	return -EAGAIN;
write_fault:
	user_write_access_end();
	return -EFAULT;
}

/* Batch size for copying runs out; up to IOMMUFD_RUNS_FEW fit on the stack. */
#define IOMMUFD_RUNS_BATCH	128
#define IOMMUFD_RUNS_FEW	16

static int noiommufd_put_runs(struct noiommufd_run __user *out,
			      const struct swpt_phys_run *run, unsigned int nr)
{
	unsigned int i;

	if (!user_write_access_begin(out, array_size(nr, sizeof(*out))))
		return -EFAULT;
	for (i = 0; i < nr; i++) {
		unsafe_put_user(run[i].phys, &out[i].phys, fault);
		unsafe_put_user(run[i].length, &out[i].length, fault);
	}
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

/*
 * A batch ends where another run begins. By the next batch that run may have
 * been unmapped, and memory that continues the last one mapped in its place:
 * then both are reported as one.
 */
static int noiommufd_ioas_copy_runs(struct noiommufd_ioas *ioas,
				    struct noiommufd_ioas_get_pa_runs *cmd,
				    struct swpt_phys_run *batch)
{
	struct noiommufd_run __user *out = u64_to_user_ptr(cmd->runs);
	struct swpt_runs runs = { .run = batch, .iova = cmd->iova };
	u64 last = cmd->iova + cmd->length - 1;
	struct swpt_phys_run before = {};
	u32 done = 0;
	int rc;

	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();

		runs.nr = 0;
		runs.room = min_t(u32, IOMMUFD_RUNS_BATCH,
				  cmd->num_runs - done);
		rc = noiommu_get_phys_runs(&ioas->iopt, last, &runs);
		if (!runs.nr)
			break;
		if (done && before.phys + before.length == batch[0].phys) {
			batch[0].phys = before.phys;
			batch[0].length += before.length;
			done--;
		}
		if (noiommufd_put_runs(out + done, batch, runs.nr))
			return -EFAULT;
		done += runs.nr;
		before = batch[runs.nr - 1];
	} while (!rc && runs.nr == runs.room && done < cmd->num_runs &&
		 runs.iova != last + 1);

	cmd->num_runs = done;
	cmd->length = runs.iova - cmd->iova;
	return done ? 0 : rc;
}

int noiommufd_ioas_get_pa_runs(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_ioas_get_pa_runs *cmd = ucmd->cmd;
	struct swpt_phys_run few[IOMMUFD_RUNS_FEW], *batch = few;
	u64 start = noiommufd_trace_start(noiommufd_translate_runs);
	struct noiommufd_ioas *ioas;
	u64 last;
	int rc;

	if (!noiommufd_may_translate(ucmd->ictx))
		return -EPERM;
	if (cmd->flags)
		return -EOPNOTSUPP;
	if (!cmd->length || !cmd->num_runs)
		return -EINVAL;
	if (cmd->iova >= ULONG_MAX ||
	    check_add_overflow(cmd->iova, cmd->length - 1, &last))
		return -EOVERFLOW;

	noiommufd_ctx_note(&ucmd->ictx->translated);
	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	if (cmd->num_runs > IOMMUFD_RUNS_FEW)
		batch = kmalloc_array(IOMMUFD_RUNS_BATCH, sizeof(*batch),
				      GFP_KERNEL);
	rc = batch ? noiommufd_ioas_copy_runs(ioas, cmd, batch) : -ENOMEM;
	if (batch != few)
		kfree(batch);
	noiommufd_put_ioas(ioas);
	trace_noiommufd_translate_runs(cmd, rc, start);
	return rc ?: noiommufd_ucmd_respond(ucmd, sizeof(*cmd));
}

int noiommufd_ioas_set_max_pa(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_ioas_set_max_pa *cmd = ucmd->cmd;
	struct noiommufd_ioas *ioas;
	int rc;

	if (cmd->max_pa && cmd->max_pa < PAGE_SIZE - 1)
		return -EINVAL;

	ioas = noiommufd_get_ioas(ucmd->ictx, cmd->ioas_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);
	rc = noiommu_set_max_pfn(&ioas->iopt, cmd->max_pa ?
						      noiommu_max_pfn(cmd->max_pa) :
						      U64_MAX);
	noiommufd_put_ioas(ioas);
	return rc;
}

int noiommufd_ioas_option_huge_pages(struct noiommufd_ctx *ictx,
				     struct iommu_option *cmd)
{
	struct noiommufd_ioas *ioas;
	int rc = 0;

	ioas = noiommufd_get_ioas(ictx, cmd->object_id);
	if (IS_ERR(ioas))
		return PTR_ERR(ioas);

	if (cmd->op == IOMMU_OPTION_OP_GET)
		cmd->val64 = !READ_ONCE(ioas->iopt.disable_large_pages);
	else if (cmd->op != IOMMU_OPTION_OP_SET)
		rc = -EOPNOTSUPP;
	else if (cmd->val64 > 1)
		rc = -EINVAL;
	else
		rc = noiommu_set_large_pages(&ioas->iopt, cmd->val64);
	noiommufd_put_ioas(ioas);
	return rc;
}

/* List the pages objects of all IOASes of a context. */
static int noiommufd_gather_pages(struct noiommufd_ctx *ictx,
				  struct list_head *list)
{
	struct noiommufd_object *obj;
	unsigned long index;
	int rc = 0;

	xa_for_each(&ictx->objects, index, obj) {
		struct noiommufd_ioas *ioas = noiommufd_get_ioas(ictx, index);

		if (IS_ERR(ioas))
			continue;
		rc = noiommu_gather_pages(&ioas->iopt, list);
		noiommufd_put_ioas(ioas);
		if (rc)
			break;
	}
	return rc;
}

int noiommufd_ioas_change_process(struct noiommufd_ucmd *ucmd)
{
	struct iommu_ioas_change_process *cmd = ucmd->cmd;
	struct noiommufd_ctx *ictx = ucmd->ictx;
	LIST_HEAD(pages);
	int rc;

	if (cmd->__reserved)
		return -EOPNOTSUPP;

	rc = mutex_lock_killable(&noiommu_change_process_lock);
	if (rc)
		return rc;
	rc = noiommufd_gather_pages(ictx, &pages);
	if (!rc)
		rc = noiommu_change_process(&pages);
	noiommu_put_gathered(&pages);
	mutex_unlock(&noiommu_change_process_lock);
	return rc;
}
