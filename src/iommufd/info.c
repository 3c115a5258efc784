// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who holds what: fdinfo of an iommufd, and our directory in debugfs. The lines
 * are "key:\tvalue", and programs read them: a key keeps its name and meaning.
 *
 * A reader keeps a context and an object in memory, never open: close and
 * IOMMU_DESTROY do not wait for it. It holds no lock of theirs for longer than a
 * batch of areas takes.
 */
#include <linux/cred.h>
#include <linux/debugfs.h>
#include <linux/device.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/seq_file.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "iommufd_private.h"

/* Open contexts. Only its xa_lock is needed to get one that is in it. */
static DEFINE_XARRAY_ALLOC1(noiommufd_contexts);

/* Number of the last walk, for all contexts: DMA memory may be in several. */
static atomic64_t noiommufd_walks;

struct dentry *noiommufd_debugfs;
EXPORT_SYMBOL_GPL(noiommufd_debugfs);

/**
 * noiommufd_opener_get() - Remember the current process.
 * @opener: out
 */
void noiommufd_opener_get(struct noiommufd_opener *opener)
{
	opener->pid = get_pid(task_tgid(current));
	get_task_comm(opener->comm, current);
}
EXPORT_SYMBOL_GPL(noiommufd_opener_get);

/**
 * noiommufd_opener_put() - Undo noiommufd_opener_get().
 * @opener: process
 */
void noiommufd_opener_put(struct noiommufd_opener *opener)
{
	put_pid(opener->pid);
}
EXPORT_SYMBOL_GPL(noiommufd_opener_put);

/**
 * noiommufd_opener_show() - Show who opened a file.
 * @m: where to
 * @key: before the pid; the name comes last, because it may contain blanks
 * @opener: process
 */
void noiommufd_opener_show(struct seq_file *m, const char *key,
			   const struct noiommufd_opener *opener)
{
	seq_printf(m, "%s%d ", key, pid_vnr(opener->pid));
	seq_escape(m, opener->comm, "\n\\");
	seq_putc(m, '\n');
}
EXPORT_SYMBOL_GPL(noiommufd_opener_show);

/**
 * noiommufd_device_show() - Show where a device is bound and attached.
 * @m: where to
 * @idev: device; the caller keeps it bound, or its object in memory
 */
void noiommufd_device_show(struct seq_file *m, struct noiommufd_device *idev)
{
	struct noiommufd_hwpt_paging *hwpt;
	u32 hwpt_id, ioas_id;

	/* What ends the attachment frees neither before a grace period. */
	rcu_read_lock();
	hwpt = READ_ONCE(idev->hwpt);
	hwpt_id = hwpt ? hwpt->obj.id : 0;
	ioas_id = hwpt ? hwpt->ioas->obj.id : 0;
	rcu_read_unlock();
	seq_printf(m, "device:\t%u %s hwpt %u ioas %u\n", idev->obj.id,
		   dev_name(idev->dev), hwpt_id, ioas_id);
}
EXPORT_SYMBOL_GPL(noiommufd_device_show);

static void noiommufd_payers_show(struct seq_file *m,
				  const struct noiommu_usage *usage)
{
	static const char *const limit[] = {
		[IOPT_PAGES_ACCOUNT_NONE] = "none",
		[IOPT_PAGES_ACCOUNT_USER] = "user",
		[IOPT_PAGES_ACCOUNT_MM] = "process",
	};
	const struct noiommu_payer *payer = usage->payer;
	unsigned int i;

	for (i = 0; i < usage->nr_payers; i++, payer++) {
		if (i == IOPT_PAYERS - 1)
			seq_printf(m, "ioas-charge:\t%llu others\n",
				   payer->npages);
		else
			seq_printf(m, "ioas-charge:\t%llu uid %u pid %d limit %s\n",
				   payer->npages,
				   from_kuid_munged(current_user_ns(),
						    payer->uid),
				   payer->pid, limit[payer->mode]);
	}
}

static void noiommufd_ioas_show(struct seq_file *m, struct noiommufd_ioas *ioas,
				u64 walk)
{
	struct noiommu_usage usage;

	if (noiommu_get_usage(&ioas->iopt, walk, &usage))
		return;
	seq_printf(m, "ioas:\t%u\n", ioas->obj.id);
	seq_printf(m, "ioas-hwpts:\t%u\n", READ_ONCE(ioas->iopt.nr_hwpts));
	seq_printf(m, "ioas-areas:\t%llu\n", usage.nr_areas);
	seq_printf(m, "ioas-bytes:\t%llu\n", usage.length);
	seq_printf(m, "ioas-pinned:\t%llu\n", usage.npinned);
	noiommufd_payers_show(m, &usage);
	seq_printf(m, "ioas-runs:\t%llu\n", usage.nr_runs);
	seq_printf(m, "ioas-table-bytes:\t%llu\n", usage.table_bytes);
}

static void noiommufd_object_show(struct seq_file *m,
				  struct noiommufd_object *obj, u64 walk)
{
	if (obj->type == IOMMUFD_OBJ_DEVICE)
		noiommufd_device_show(m, container_of(obj,
						      struct noiommufd_device,
						      obj));
	else if (obj->type == IOMMUFD_OBJ_IOAS)
		noiommufd_ioas_show(m, to_ioas(obj), walk);
}

/**
 * noiommufd_info_show() - Show a context.
 * @m: where to; nothing more is added once it is full, or a fatal signal arrives
 * @ictx: context, which the caller keeps in memory
 */
void noiommufd_info_show(struct seq_file *m, struct noiommufd_ctx *ictx)
{
	struct noiommufd_object *obj;
	unsigned long index;
	u64 walk;

	seq_printf(m, "context:\t%u\n", ictx->number);
	noiommufd_opener_show(m, "opener:\t", &ictx->opener);
	noiommufd_grant_show(m, ictx);

	if (mutex_lock_killable(&ictx->usage_lock))
		return;
	walk = atomic64_inc_return(&noiommufd_walks);
	xa_for_each(&ictx->objects, index, obj) {
		if (seq_has_overflowed(m) || fatal_signal_pending(current))
			break;
		obj = noiommufd_get_object(ictx, index, IOMMUFD_OBJ_ANY);
		if (IS_ERR(obj))
			continue;
		noiommufd_object_show(m, obj, walk);
		noiommufd_put_object(obj);
		cond_resched();
	}
	mutex_unlock(&ictx->usage_lock);
}

/**
 * noiommufd_info_add() - Let a context be shown.
 * @ictx: new context, opened by the current process
 *
 * Return: 0 or -ENOMEM.
 */
int noiommufd_info_add(struct noiommufd_ctx *ictx)
{
	int rc;

	refcount_set(&ictx->refs, 1);
	mutex_init(&ictx->usage_lock);
	noiommufd_opener_get(&ictx->opener);
	rc = xa_alloc(&noiommufd_contexts, &ictx->number, ictx, xa_limit_31b,
		      GFP_KERNEL_ACCOUNT);
	if (rc)
		noiommufd_opener_put(&ictx->opener);
	return rc;
}

/**
 * noiommufd_info_remove() - Let a context be shown no longer.
 * @ictx: context; noiommufd_info_put() frees it, as the last of its readers
 */
void noiommufd_info_remove(struct noiommufd_ctx *ictx)
{
	xa_erase(&noiommufd_contexts, ictx->number);
}

/**
 * noiommufd_info_put() - Drop a reference to the memory of a context.
 * @ictx: context
 */
void noiommufd_info_put(struct noiommufd_ctx *ictx)
{
	if (!refcount_dec_and_test(&ictx->refs))
		return;
	noiommufd_opener_put(&ictx->opener);
	noiommufd_opener_put(&ictx->granter);
	mutex_destroy(&ictx->usage_lock);
	kfree(ictx);
}

/* The first context from a number on, with a reference, or NULL. */
static struct noiommufd_ctx *noiommufd_info_get(unsigned long number)
{
	struct noiommufd_ctx *ictx;

	xa_lock(&noiommufd_contexts);
	ictx = xa_find(&noiommufd_contexts, &number, ULONG_MAX, XA_PRESENT);
	if (ictx)
		refcount_inc(&ictx->refs);
	xa_unlock(&noiommufd_contexts);
	return ictx;
}

static void *noiommufd_contexts_start(struct seq_file *m, loff_t *pos)
{
	return noiommufd_info_get(*pos);
}

static void *noiommufd_contexts_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct noiommufd_ctx *ictx = v;

	*pos = ictx->number + 1;
	noiommufd_info_put(ictx);
	return noiommufd_info_get(*pos);
}

static void noiommufd_contexts_stop(struct seq_file *m, void *v)
{
	if (v)
		noiommufd_info_put(v);
}

static int noiommufd_contexts_show(struct seq_file *m, void *v)
{
	noiommufd_info_show(m, v);
	return 0;
}

static const struct seq_operations noiommufd_contexts_sops = {
	.start = noiommufd_contexts_start,
	.next = noiommufd_contexts_next,
	.stop = noiommufd_contexts_stop,
	.show = noiommufd_contexts_show,
};

DEFINE_SEQ_ATTRIBUTE(noiommufd_contexts);

static int noiommufd_table_bytes_show(struct seq_file *m, void *v)
{
	seq_printf(m, "%lu\n", swpt_table_bytes());
	return 0;
}

DEFINE_SHOW_ATTRIBUTE(noiommufd_table_bytes);

/**
 * noiommufd_info_init() - Make our directory in debugfs, if the kernel has that.
 */
void noiommufd_info_init(void)
{
	noiommufd_debugfs = debugfs_create_dir("noiommufd", NULL);
	debugfs_create_file("contexts", 0400, noiommufd_debugfs, NULL,
			    &noiommufd_contexts_fops);
	debugfs_create_file("table_bytes", 0400, noiommufd_debugfs, NULL,
			    &noiommufd_table_bytes_fops);
}

/**
 * noiommufd_info_exit() - Undo noiommufd_info_init(); waits for readers.
 */
void noiommufd_info_exit(void)
{
	debugfs_remove(noiommufd_debugfs);
}
