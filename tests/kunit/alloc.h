/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The allocator of the code under test, which includes this after all its own
 * headers: any allocation can be made to fail, and those not yet freed are
 * counted. The count is atomic because a worker frees some of them; only
 * single-threaded tests make allocations fail.
 */
#ifndef __NOIOMMUFD_TEST_ALLOC_H
#define __NOIOMMUFD_TEST_ALLOC_H

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/overflow.h>
#include <linux/slab.h>

extern atomic_long_t noiommufd_test_allocated;
/* How many allocations succeed before one fails; negative: all succeed. */
extern long noiommufd_test_fail_after;

bool noiommufd_test_alloc_fails(void);
void *noiommufd_test_alloc(size_t size, gfp_t gfp);
void noiommufd_test_free(const void *mem);

/* For the exit of every suite, after deferred frees: nothing is allocated. */
static inline void test_expect_none_allocated(struct kunit *test)
{
	noiommufd_test_fail_after = -1;
	KUNIT_EXPECT_EQ(test, 0L, atomic_long_read(&noiommufd_test_allocated));
	/* A leak of this test must not fail the next one. */
	atomic_long_set(&noiommufd_test_allocated, 0);
}

#ifdef NOIOMMUFD_COVERAGE
/* Keep one copy of each function, so that its branches are counted together. */
#undef __always_inline
#define __always_inline inline
#endif

#undef kmalloc
#undef kzalloc
#undef kvmalloc
#undef kmalloc_array
#undef kvmalloc_array
#undef kfree
#undef kvfree
#define kmalloc(size, gfp)		noiommufd_test_alloc(size, gfp)
#define kzalloc(size, gfp)		noiommufd_test_alloc(size, (gfp) | __GFP_ZERO)
#define kvmalloc(size, gfp)		noiommufd_test_alloc(size, gfp)
#define kmalloc_array(n, size, gfp)	noiommufd_test_alloc(array_size(n, size), gfp)
#define kvmalloc_array(n, size, gfp)	noiommufd_test_alloc(array_size(n, size), gfp)
#define kfree(mem)			noiommufd_test_free(mem)
#define kvfree(mem)			noiommufd_test_free(mem)

/* Count what the code under test frees with kfree_rcu(). */
#define TEST_FREE_RCU(fn, type)                                          \
	static void fn(type ptr)                                         \
	{                                                                \
		atomic_long_dec(&noiommufd_test_allocated);              \
		kfree_rcu(ptr, rcu);                                     \
	}

#endif /* __NOIOMMUFD_TEST_ALLOC_H */
