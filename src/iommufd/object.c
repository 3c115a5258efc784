// SPDX-License-Identifier: GPL-2.0-only
/*
 * Contexts' objects: their ids, references and users. See iommufd_private.h for
 * what guards an object.
 */
#include <linux/file.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "iommufd_private.h"

/**
 * noiommufd_ctx_put() - Drop a reference to a context.
 * @ictx: context
 */
void noiommufd_ctx_put(struct noiommufd_ctx *ictx)
{
	fput(ictx->file);
}
EXPORT_SYMBOL_GPL(noiommufd_ctx_put);

static void noiommufd_object_pre_destroy(struct noiommufd_object *obj)
{
	if (noiommufd_object_ops[obj->type].pre_destroy)
		noiommufd_object_ops[obj->type].pre_destroy(obj);
}

static void noiommufd_object_destroy(struct noiommufd_object *obj)
{
	if (noiommufd_object_ops[obj->type].destroy)
		noiommufd_object_ops[obj->type].destroy(obj);
}

/**
 * noiommufd_object_alloc_bytes() - Allocate an object and an id for it.
 * @ictx: context
 * @size: bytes, with struct noiommufd_object first
 * @type: its type
 *
 * Lookups do not find the object until noiommufd_object_finalize().
 *
 * Return: the object, zeroed and with one reference, or -ENOMEM.
 */
struct noiommufd_object *
noiommufd_object_alloc_bytes(struct noiommufd_ctx *ictx, size_t size,
			     enum noiommufd_object_type type)
{
	struct noiommufd_object *obj;
	int rc;

	obj = kzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!obj)
		return ERR_PTR(-ENOMEM);
	refcount_set(&obj->refs, 1);
	obj->ictx = ictx;
	obj->type = type;
	rc = xa_alloc(&ictx->objects, &obj->id, XA_ZERO_ENTRY, xa_limit_31b,
		      GFP_KERNEL_ACCOUNT);
	if (rc) {
		kfree(obj);
		return ERR_PTR(rc);
	}
	return obj;
}

/**
 * noiommufd_object_finalize() - Let the object be found by its id.
 * @obj: complete
 */
void noiommufd_object_finalize(struct noiommufd_object *obj)
{
	/* xa_alloc() reserved the slot, so this cannot fail. */
	xa_store(&obj->ictx->objects, obj->id, obj, GFP_KERNEL_ACCOUNT);
}

/**
 * noiommufd_object_abort() - Undo noiommufd_object_alloc_bytes().
 * @obj: not finalized, nothing left to destroy
 */
void noiommufd_object_abort(struct noiommufd_object *obj)
{
	xa_erase(&obj->ictx->objects, obj->id);
	kfree(obj);
}

/**
 * noiommufd_get_object() - Find an object and take a reference to it.
 * @ictx: context
 * @id: its id
 * @type: the type it must have, or IOMMUFD_OBJ_ANY
 *
 * Return: the object, or -ENOENT.
 */
struct noiommufd_object *noiommufd_get_object(struct noiommufd_ctx *ictx,
					      u32 id,
					      enum noiommufd_object_type type)
{
	struct noiommufd_object *obj;

	/* The xa_lock is for all objects, and would be written by each ioctl. */
	rcu_read_lock();
	obj = xa_load(&ictx->objects, id);
	if (!obj || (type != IOMMUFD_OBJ_ANY && obj->type != type) ||
	    !refcount_inc_not_zero(&obj->refs))
		obj = ERR_PTR(-ENOENT);
	rcu_read_unlock();
	return obj;
}

/**
 * noiommufd_put_object() - Drop a reference.
 * @obj: object; destroyed with the last one
 *
 * Context: no lock is held.
 */
void noiommufd_put_object(struct noiommufd_object *obj)
{
	if (!refcount_dec_and_test(&obj->refs))
		return;
	noiommufd_object_destroy(obj);
	kfree_rcu(obj, rcu);
}

/* Lookups do not find the object any more. */
static void noiommufd_object_erase(struct noiommufd_object *obj)
{
	struct noiommufd_ctx *ictx = obj->ictx;

	lockdep_assert_held(&ictx->objects.xa_lock);

	__xa_erase(&ictx->objects, obj->id);
	if (ictx->vfio_ioas == obj)
		ictx->vfio_ioas = NULL;
}

/**
 * noiommufd_object_use_locked() - noiommufd_object_use() with the lock held.
 * @obj: object
 *
 * Context: the xa_lock of noiommufd_ctx::objects is held.
 * Return: 0, or -ENOENT: it was destroyed already.
 */
int noiommufd_object_use_locked(struct noiommufd_object *obj)
{
	struct xarray *objects = &obj->ictx->objects;

	lockdep_assert_held(&objects->xa_lock);

	if (xa_load(objects, obj->id) != obj)
		return -ENOENT;
	refcount_inc(&obj->refs);
	obj->users++;
	return 0;
}

/**
 * noiommufd_object_use() - Keep an object from being destroyed.
 * @obj: the caller has a reference
 *
 * Return: 0, or -ENOENT: it was destroyed already.
 */
int noiommufd_object_use(struct noiommufd_object *obj)
{
	struct xarray *objects = &obj->ictx->objects;
	int rc;

	xa_lock(objects);
	rc = noiommufd_object_use_locked(obj);
	xa_unlock(objects);
	return rc;
}

/**
 * noiommufd_object_unuse() - Undo noiommufd_object_use().
 * @obj: object
 * @destroy_unused: destroy it if this was the last user
 */
void noiommufd_object_unuse(struct noiommufd_object *obj, bool destroy_unused)
{
	struct xarray *objects = &obj->ictx->objects;
	bool destroy;

	xa_lock(objects);
	destroy = !--obj->users && destroy_unused;
	if (destroy)
		noiommufd_object_erase(obj);
	xa_unlock(objects);
	noiommufd_put_object(obj);
	if (!destroy)
		return;
	noiommufd_object_pre_destroy(obj);
	noiommufd_put_object(obj);
}

/**
 * noiommufd_object_remove() - Destroy an object.
 * @ictx: context
 * @id: its id
 *
 * What it had is given up when this returns, even if an ioctl that found it
 * before still has a reference.
 *
 * Context: no lock is held.
 * Return: 0; -ENOENT: no such object; -EBUSY: it has users.
 */
int noiommufd_object_remove(struct noiommufd_ctx *ictx, u32 id)
{
	struct noiommufd_object *obj;
	int rc = 0;

	xa_lock(&ictx->objects);
	obj = xa_load(&ictx->objects, id);
	if (!obj)
		rc = -ENOENT;
	else if (obj->users)
		rc = -EBUSY;
	else
		noiommufd_object_erase(obj);
	xa_unlock(&ictx->objects);
	if (rc)
		return rc;
	noiommufd_object_pre_destroy(obj);
	noiommufd_put_object(obj);
	return 0;
}
