// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suite of the objects of a context: how one is found, what keeps it, and
 * when it is destroyed. It includes object.c and main.c, with objects that only
 * count what happens to them, and with neither a device node nor exported
 * symbols.
 */
#define __DISABLE_EXPORTS

#include <kunit/test.h>
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#define noiommufd_node_name	test_node_name
#define noiommufd_ctx_from_fd	test_ctx_from_fd
#define noiommufd_ctx_put	test_ctx_put

#include "../../src/iommufd/iommufd_private.h"
#include "alloc.h"

TEST_FREE_RCU(test_free_object, struct noiommufd_object *)
#undef kfree_rcu
#define kfree_rcu(ptr, ...)	test_free_object(ptr)

static int test_xa_alloc(struct xarray *xa, u32 *id, void *entry,
			 struct xa_limit limit, gfp_t gfp)
{
	if (noiommufd_test_alloc_fails())
		return -ENOMEM;
	return xa_alloc(xa, id, entry, limit, gfp);
}

#define xa_alloc	test_xa_alloc

#undef pr_fmt
#undef module_init
#undef module_exit
#undef MODULE_AUTHOR
#undef MODULE_DESCRIPTION
#undef MODULE_LICENSE
#undef MODULE_VERSION
#undef __init
#undef __exit
#define module_init(...)
#define module_exit(...)
#define MODULE_AUTHOR(...)
#define MODULE_DESCRIPTION(...)
#define MODULE_LICENSE(...)
#define MODULE_VERSION(...)
#define __init			__maybe_unused
#define __exit			__maybe_unused

#include "../../src/iommufd/object.c"
#include "../../src/iommufd/main.c"

/* The ioctls that main.c would pass on. */
static int test_no_ioctl(struct noiommufd_ucmd *ucmd)
{
	return -EOPNOTSUPP;
}

int noiommufd_hwpt_alloc(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_ioas_alloc_ioctl(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_allow_iovas(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_copy(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_ioas_get_pa_runs(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_iova_ranges(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_map(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_ioas_noiommu_get_pa(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_unmap(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);

int noiommufd_fault_alloc(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_get_hw_info(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_hw_queue_alloc_ioctl(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_hwpt_get_dirty_bitmap(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_hwpt_invalidate(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_hwpt_set_dirty_tracking(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_batch(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_ioas_change_process(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_ioas_map_file(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_ioas_set_max_pa(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_mem_alloc(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_grant(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_revoke(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_vdevice_alloc_ioctl(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);
int noiommufd_veventq_alloc(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_vfio_ioas(struct noiommufd_ucmd *ucmd) __alias(test_no_ioctl);
int noiommufd_viommu_alloc_ioctl(struct noiommufd_ucmd *ucmd)
	__alias(test_no_ioctl);

int noiommufd_vfio_ioctl(struct noiommufd_ctx *ictx, unsigned int cmd,
			 unsigned long arg)
{
	return -ENOTTY;
}

int noiommufd_ioas_get_pa_fast(struct noiommufd_ctx *ictx,
			       struct iommu_ioas_noiommu_get_pa __user *arg)
{
	return -EOPNOTSUPP;
}

void noiommu_mem_info(struct noiommufd_get_info *info)
{
}

bool noiommufd_grant_allowed(void)
{
	return false;
}

int noiommufd_ioas_option_huge_pages(struct noiommufd_ctx *ictx,
				     struct iommu_option *cmd)
{
	return -EOPNOTSUPP;
}

/* Contexts are not shown. */
int noiommufd_info_add(struct noiommufd_ctx *ictx)
{
	return 0;
}

void noiommufd_info_remove(struct noiommufd_ctx *ictx)
{
}

void noiommufd_info_put(struct noiommufd_ctx *ictx)
{
	kfree(ictx);
}

void noiommufd_info_show(struct seq_file *m, struct noiommufd_ctx *ictx)
{
}

void noiommufd_info_init(void)
{
}

void noiommufd_info_exit(void)
{
}

/* An IOAS, or an HWPT that uses one. */
struct test_object {
	struct noiommufd_object obj;
	struct test_object *uses;
	atomic_t given_up;
	atomic_t destroyed;
};

static atomic_t test_made, test_given_up, test_destroyed, test_destroyed_twice;

static void test_pre_destroy(struct noiommufd_object *obj)
{
	struct test_object *object = container_of(obj, struct test_object, obj);

	atomic_inc(&test_given_up);
	if (atomic_inc_return(&object->given_up) != 1)
		atomic_inc(&test_destroyed_twice);
}

static void test_destroy(struct noiommufd_object *obj)
{
	struct test_object *object = container_of(obj, struct test_object, obj);

	atomic_inc(&test_destroyed);
	if (atomic_inc_return(&object->destroyed) != 1)
		atomic_inc(&test_destroyed_twice);
	if (object->uses)
		noiommufd_object_unuse(&object->uses->obj, false);
}

void noiommufd_device_destroy(struct noiommufd_object *obj)
{
	test_destroy(obj);
}

/* An HWPT gives up everything before its destruction. */
void noiommufd_hwpt_paging_pre_destroy(struct noiommufd_object *obj)
{
	test_pre_destroy(obj);
	test_destroy(obj);
}

void noiommufd_ioas_pre_destroy(struct noiommufd_object *obj)
{
	test_pre_destroy(obj);
}

void noiommufd_ioas_destroy(struct noiommufd_object *obj)
{
	test_destroy(obj);
}

static int object_test_init(struct kunit *test)
{
	struct file *file = kunit_kzalloc(test, sizeof(*file), GFP_KERNEL);
	int rc;

	if (!file)
		return -ENOMEM;
	atomic_set(&test_made, 0);
	atomic_set(&test_given_up, 0);
	atomic_set(&test_destroyed, 0);
	atomic_set(&test_destroyed_twice, 0);
	rc = noiommufd_fops_open(NULL, file);
	if (rc)
		return rc;
	test->priv = file;
	return 0;
}

/* Closing the file destroys what is left. */
static void object_test_exit(struct kunit *test)
{
	if (!test->priv)
		return;
	noiommufd_fops_release(NULL, test->priv);
	KUNIT_EXPECT_EQ(test, atomic_read(&test_made),
			atomic_read(&test_destroyed));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed_twice));
	test_expect_none_allocated(test);
}

static struct noiommufd_ctx *test_ctx(struct kunit *test)
{
	struct file *file = test->priv;

	return file->private_data;
}

/* Not yet finalized. */
static struct test_object *test_alloc(struct noiommufd_ctx *ictx,
				      enum noiommufd_object_type type)
{
	struct test_object *object;

	object = noiommufd_object_alloc(ictx, object, type);
	if (!IS_ERR(object))
		atomic_inc(&test_made);
	return object;
}

static struct test_object *test_make(struct kunit *test,
				     enum noiommufd_object_type type)
{
	struct test_object *object = test_alloc(test_ctx(test), type);

	KUNIT_ASSERT_FALSE(test, IS_ERR(object));
	noiommufd_object_finalize(&object->obj);
	return object;
}

static void test_abort(struct test_object *object)
{
	atomic_dec(&test_made);
	noiommufd_object_abort(&object->obj);
}

static int test_find(struct kunit *test, u32 id,
		     enum noiommufd_object_type type)
{
	struct noiommufd_object *obj;

	obj = noiommufd_get_object(test_ctx(test), id, type);
	if (IS_ERR(obj))
		return PTR_ERR(obj);
	KUNIT_EXPECT_EQ(test, id, obj->id);
	noiommufd_put_object(obj);
	return 0;
}

/* An object gets the lowest free ID, starting at 1. */
static void object_test_ids(struct kunit *test)
{
	struct noiommufd_ctx *ictx = test_ctx(test);
	u32 id;

	for (id = 1; id <= 5; id++)
		KUNIT_EXPECT_EQ(test, id,
				test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, -ENOENT, test_find(test, 0, IOMMUFD_OBJ_ANY));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_find(test, 6, IOMMUFD_OBJ_ANY));
	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_remove(ictx, 4));
	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_remove(ictx, 2));
	KUNIT_EXPECT_EQ(test, 2U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, 4U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, 6U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&test_destroyed));
}

/* An object that is not finalized has an ID but cannot be found by it. */
static void object_test_not_final(struct kunit *test)
{
	struct noiommufd_ctx *ictx = test_ctx(test);
	struct test_object *object = test_alloc(ictx, IOMMUFD_OBJ_IOAS);

	KUNIT_ASSERT_FALSE(test, IS_ERR(object));
	KUNIT_EXPECT_EQ(test, 1U, object->obj.id);
	KUNIT_EXPECT_EQ(test, 2U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, -ENOENT, test_find(test, 1, IOMMUFD_OBJ_ANY));
	KUNIT_EXPECT_EQ(test, -ENOENT, noiommufd_object_remove(ictx, 1));
	KUNIT_EXPECT_EQ(test, -ENOENT, noiommufd_object_use(&object->obj));
	test_abort(object);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed));

	object = test_alloc(ictx, IOMMUFD_OBJ_IOAS);
	KUNIT_ASSERT_FALSE(test, IS_ERR(object));
	KUNIT_EXPECT_EQ(test, 1U, object->obj.id);
	noiommufd_object_finalize(&object->obj);
	KUNIT_EXPECT_EQ(test, 0, test_find(test, 1, IOMMUFD_OBJ_IOAS));
}

static void object_test_types(struct kunit *test)
{
	static const enum noiommufd_object_type types[] = {
		IOMMUFD_OBJ_DEVICE,
		IOMMUFD_OBJ_HWPT_PAGING,
		IOMMUFD_OBJ_IOAS,
	};
	unsigned int i, j;

	for (i = 0; i < ARRAY_SIZE(types); i++)
		test_make(test, types[i]);
	for (i = 0; i < ARRAY_SIZE(types); i++) {
		KUNIT_EXPECT_EQ(test, 0, test_find(test, i + 1,
						   IOMMUFD_OBJ_ANY));
		for (j = 0; j < ARRAY_SIZE(types); j++)
			KUNIT_EXPECT_EQ(test, i == j ? 0 : -ENOENT,
					test_find(test, i + 1, types[j]));
	}
}

/*
 * An object gives up what it has when its ID is removed, and is destroyed once,
 * with the last reference.
 */
static void object_test_references(struct kunit *test)
{
	struct noiommufd_ctx *ictx = test_ctx(test);
	struct test_object *object = test_make(test, IOMMUFD_OBJ_IOAS);
	struct noiommufd_object *obj[3];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(obj); i++) {
		obj[i] = noiommufd_get_object(ictx, 1, IOMMUFD_OBJ_IOAS);
		KUNIT_ASSERT_PTR_EQ(test, obj[i], &object->obj);
	}
	noiommufd_put_object(obj[0]);
	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_remove(ictx, 1));
	KUNIT_EXPECT_EQ(test, -ENOENT, noiommufd_object_remove(ictx, 1));
	KUNIT_EXPECT_EQ(test, -ENOENT, test_find(test, 1, IOMMUFD_OBJ_ANY));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&test_given_up));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed));

	/* Another object has the ID now, and is not taken for the old one. */
	KUNIT_EXPECT_EQ(test, 1U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
	KUNIT_EXPECT_EQ(test, -ENOENT, noiommufd_object_use(obj[1]));
	KUNIT_EXPECT_EQ(test, 0, test_find(test, 1, IOMMUFD_OBJ_IOAS));

	noiommufd_put_object(obj[1]);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed));
	noiommufd_put_object(obj[2]);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&test_destroyed));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&test_given_up));
}

static void object_test_users(struct kunit *test)
{
	struct noiommufd_ctx *ictx = test_ctx(test);
	struct test_object *object = test_make(test, IOMMUFD_OBJ_IOAS);

	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_use(&object->obj));
	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_use(&object->obj));
	KUNIT_EXPECT_EQ(test, -EBUSY, noiommufd_object_remove(ictx, 1));
	noiommufd_object_unuse(&object->obj, true);
	KUNIT_EXPECT_EQ(test, -EBUSY, noiommufd_object_remove(ictx, 1));
	KUNIT_EXPECT_EQ(test, 0, test_find(test, 1, IOMMUFD_OBJ_IOAS));
	/* The last user leaves the object in place, or removes it. */
	noiommufd_object_unuse(&object->obj, false);
	KUNIT_EXPECT_EQ(test, 0, test_find(test, 1, IOMMUFD_OBJ_IOAS));
	KUNIT_EXPECT_EQ(test, 0, noiommufd_object_use(&object->obj));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed));
	noiommufd_object_unuse(&object->obj, true);
	KUNIT_EXPECT_EQ(test, -ENOENT, test_find(test, 1, IOMMUFD_OBJ_IOAS));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&test_destroyed));
}

/* Close destroys chains of objects that use each other, in any order of IDs. */
static void object_test_close(struct kunit *test)
{
	struct test_object *object[6];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(object); i++)
		object[i] = test_make(test, IOMMUFD_OBJ_HWPT_PAGING);
	for (i = 0; i < 2; i++) {
		object[i]->uses = object[i + 1];
		KUNIT_EXPECT_EQ(test, 0,
				noiommufd_object_use(&object[i + 1]->obj));
		object[5 - i]->uses = object[4 - i];
		KUNIT_EXPECT_EQ(test, 0,
				noiommufd_object_use(&object[4 - i]->obj));
	}
	KUNIT_EXPECT_EQ(test, -EBUSY,
			noiommufd_object_remove(test_ctx(test), 2));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed));
}

static void object_test_alloc_fails(struct kunit *test)
{
	struct noiommufd_ctx *ictx = test_ctx(test);
	struct test_object *object = NULL;
	struct file file = {};
	long n;

	for (n = 0; n < 2; n++) {
		noiommufd_test_fail_after = n;
		object = test_alloc(ictx, IOMMUFD_OBJ_IOAS);
		KUNIT_ASSERT_TRUE(test, IS_ERR(object));
		KUNIT_EXPECT_EQ(test, -ENOMEM, (int)PTR_ERR(object));
		KUNIT_EXPECT_EQ(test, -1L, noiommufd_test_fail_after);
		KUNIT_EXPECT_TRUE(test, xa_empty(&ictx->objects));
	}
	noiommufd_test_fail_after = 0;
	KUNIT_EXPECT_EQ(test, -ENOMEM, noiommufd_fops_open(NULL, &file));
	noiommufd_test_fail_after = -1;
	KUNIT_EXPECT_EQ(test, 1U, test_make(test, IOMMUFD_OBJ_IOAS)->obj.id);
}

/*
 * Workers make, use and destroy the same few objects. Any step may fail, but no
 * object is destroyed twice or left over.
 */
struct test_racer {
	struct work_struct work;
	struct noiommufd_ctx *ictx;
	atomic_t *start;
	u32 seed;
};

static void test_race(struct work_struct *work)
{
	struct test_racer *racer = container_of(work, struct test_racer, work);
	struct test_object *object;
	struct noiommufd_object *obj;
	unsigned int i;
	u32 id;

	/* All start at once, if there is a CPU for each. */
	atomic_dec(racer->start);
	for (i = 0; i < 1000 && atomic_read(racer->start); i++)
		cond_resched();
	for (i = 0; i < 3000; i++) {
		racer->seed = racer->seed * 1664525 + 1013904223;
		id = 1 + (racer->seed >> 16) % 4;
		switch (racer->seed >> 28 & 3) {
		case 0:
			object = test_alloc(racer->ictx, IOMMUFD_OBJ_IOAS);
			if (!IS_ERR(object))
				noiommufd_object_finalize(&object->obj);
			break;
		case 1:
			noiommufd_object_remove(racer->ictx, id);
			break;
		default:
			obj = noiommufd_get_object(racer->ictx, id,
						   IOMMUFD_OBJ_IOAS);
			if (IS_ERR(obj))
				break;
			if (!noiommufd_object_use(obj))
				noiommufd_object_unuse(obj,
						       racer->seed & BIT(30));
			noiommufd_put_object(obj);
		}
		cond_resched();
	}
}

static void object_test_race(struct kunit *test)
{
	struct test_racer *racer;
	const unsigned int n = 3;
	atomic_t start = ATOMIC_INIT(n);
	unsigned int i;

	racer = kunit_kzalloc(test, n * sizeof(*racer), GFP_KERNEL);
	KUNIT_ASSERT_TRUE(test, racer);
	for (i = 0; i < n; i++) {
		racer[i].ictx = test_ctx(test);
		racer[i].start = &start;
		racer[i].seed = i;
		INIT_WORK(&racer[i].work, test_race);
		queue_work(system_unbound_wq, &racer[i].work);
	}
	for (i = 0; i < n; i++)
		flush_work(&racer[i].work);
	KUNIT_EXPECT_GT(test, atomic_read(&test_destroyed), 0);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&test_destroyed_twice));
}

static struct kunit_case object_cases[] = {
	KUNIT_CASE(object_test_ids),
	KUNIT_CASE(object_test_not_final),
	KUNIT_CASE(object_test_types),
	KUNIT_CASE(object_test_references),
	KUNIT_CASE(object_test_users),
	KUNIT_CASE(object_test_close),
	KUNIT_CASE(object_test_alloc_fails),
	KUNIT_CASE(object_test_race),
	{}
};

static struct kunit_suite object_suite = {
	.name = "objects",
	.init = object_test_init,
	.exit = object_test_exit,
	.test_cases = object_cases,
};

kunit_test_suites(&object_suite);
