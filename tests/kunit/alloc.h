/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory for code under test, which includes this after all headers of its own:
 * each allocation can be made to fail, and what is out is counted. The count is
 * atomic, for some is freed by a worker; failing is for single-threaded tests.
 */
#ifndef __NOIOMMUFD_TEST_ALLOC_H
#define __NOIOMMUFD_TEST_ALLOC_H

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/overflow.h>
#include <linux/slab.h>

extern atomic_long_t noiommufd_test_allocated;
/* Allocations until one fails; negative: none does. */
extern long noiommufd_test_fail_after;

bool noiommufd_test_alloc_fails(void);
void *noiommufd_test_alloc(size_t size, gfp_t gfp);
void noiommufd_test_free(const void *mem);

/* All suites' exit: nothing is allocated. Whatever frees it has settled. */
static inline void test_expect_none_allocated(struct kunit *test)
{
	noiommufd_test_fail_after = -1;
	KUNIT_EXPECT_EQ(test, 0L, atomic_long_read(&noiommufd_test_allocated));
	/* Let others not suffer. */
	atomic_long_set(&noiommufd_test_allocated, 0);
}

#ifdef NOIOMMUFD_COVERAGE
/* One copy of a function, so that its branches are counted together. */
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

/* The same for what code under test frees by kfree_rcu(). */
#define TEST_FREE_RCU(fn, type)                                          \
	static void fn(type ptr)                                         \
	{                                                                \
		atomic_long_dec(&noiommufd_test_allocated);              \
		kfree_rcu(ptr, rcu);                                     \
	}

#endif /* __NOIOMMUFD_TEST_ALLOC_H */
