// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit suite of what keeps a device from memory: the message for each fact,
 * and which bus ranges restrict nothing. The facts are those of real machines.
 */
#include <kunit/test.h>
#include <linux/dma-direct.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "../../src/vfio/reach.c"

#define KERNEL_DRIVER	": use the kernel's driver"

struct test_ram {
	u64 start, last;
};

static void test_memory(struct kunit *test, struct noiommu_vfio_reach reach,
			const char *why)
{
	KUNIT_EXPECT_EQ(test, !why, noiommu_vfio_reaches_memory(&reach));
	KUNIT_EXPECT_TRUE(test, strstr(reach.why, why ?: ""));
	KUNIT_EXPECT_EQ(test, !why, !*reach.why);
}

static void reach_test_memory(struct kunit *test)
{
	test_memory(test, (struct noiommu_vfio_reach){}, NULL);
	test_memory(test, (struct noiommu_vfio_reach){ .xen_pv = true },
		    "Xen PV domain");
	test_memory(test, (struct noiommu_vfio_reach){ .encrypted = true },
		    "memory is encrypted");
	test_memory(test, (struct noiommu_vfio_reach){ .restricted = true },
		    "a reserved part of memory only" KERNEL_DRIVER);
	test_memory(test, (struct noiommu_vfio_reach){ .incoherent = true },
		    "does not snoop the CPU's caches");
	/* The fact that is hardest to change comes first. */
	test_memory(test, (struct noiommu_vfio_reach){
			    .xen_pv = true, .encrypted = true,
			    .restricted = true, .incoherent = true,
		    }, "Xen PV domain");
	/* A limit is reported by the function for RAM. */
	test_memory(test, (struct noiommu_vfio_reach){ .limit = 1 }, NULL);
}

/* @why: message for the first RAM out of reach; NULL: all is within reach. */
static void test_ram(struct kunit *test, u64 limit,
		     const struct bus_dma_region *ranges,
		     const struct test_ram *ram, const char *why)
{
	struct noiommu_vfio_reach reach = { .limit = limit, .ranges = ranges };
	bool reached = true;

	for (; reached && ram->last; ram++)
		reached = noiommu_vfio_reaches_ram(&reach, ram->start,
						   ram->last);
	KUNIT_EXPECT_EQ(test, !why, reached);
	KUNIT_EXPECT_EQ(test, !why, !*reach.why);
	if (why && !strstr(reach.why, why))
		KUNIT_FAIL(test, "expected \"%s\", got \"%s\"", why, reach.why);
}

static const struct test_ram pc[] = {
	{ 0x1000, 0x9fbff }, { SZ_1M, SZ_2G - 1 }, { SZ_4G, SZ_4G + SZ_2G - 1 },
	{},
};

/* A board whose RAM begins at 0, in pieces */
static const struct test_ram board[] = {
	{ 0, 0x3b3fffff }, { SZ_1G, 0xfbffffff }, { SZ_4G, 2 * SZ_4G - 1 }, {},
};

static void reach_test_nothing_in_the_way(struct kunit *test)
{
	test_ram(test, 0, NULL, pc, NULL);
	test_ram(test, 0, NULL, board, NULL);
	test_ram(test, 0, NULL,
		 (const struct test_ram[]){ { 0, U64_MAX }, {} }, NULL);
}

static void reach_test_limit(struct kunit *test)
{
	/* A bus of 32 bits, and one of 48 bits */
	test_ram(test, U32_MAX, NULL, pc,
		 "does not reach RAM at 0x100000000-0x17fffffff (the limit is 0xffffffff): boot with mem=");
	test_ram(test, BIT_ULL(48) - 1, NULL, pc, NULL);
	/* Exact to the byte */
	test_ram(test, SZ_4G + SZ_2G - 1, NULL, pc, NULL);
	test_ram(test, SZ_4G + SZ_2G - 2, NULL, pc,
		 "RAM at 0x17fffffff-0x17fffffff (the limit is 0x17ffffffe)");
	test_ram(test, 0xfff, NULL, pc, "RAM at 0x1000-0x9fbff");
}

static void reach_test_same_address(struct kunit *test)
{
	static const struct bus_dma_region all[] = {
		{ .size = BIT_ULL(40) }, {},
	};
	static const struct bus_dma_region to_the_end[] = {
		{ .size = U64_MAX }, {},
	};
	/* In parts, unordered; the second piece of RAM spans two of them */
	static const struct bus_dma_region parts[] = {
		{ .cpu_start = SZ_4G, .dma_start = SZ_4G, .size = SZ_4G },
		{ .cpu_start = SZ_2G, .dma_start = SZ_2G, .size = SZ_2G },
		{ .size = SZ_2G }, {},
	};

	test_ram(test, 0, all, pc, NULL);
	test_ram(test, 0, all, board, NULL);
	test_ram(test, BIT_ULL(40) - 1, all, board, NULL);
	test_ram(test, 0, to_the_end, board, NULL);
	test_ram(test, 0, parts, board, NULL);
}

static void reach_test_not_all_ram(struct kunit *test)
{
	/* Raspberry Pi 4: the first 3 GiB */
	static const struct bus_dma_region pi4[] = {
		{ .size = 0xc0000000 }, {},
	};
	static const struct bus_dma_region hole[] = {
		{ .size = SZ_1G },
		{ .cpu_start = SZ_2G, .dma_start = SZ_2G, .size = 2 * SZ_4G },
		{},
	};
	static const struct bus_dma_region none[] = { {} };

	test_ram(test, 0, pi4, (const struct test_ram[]){
			 { 0, 0x3b3fffff }, { SZ_1G, SZ_2G - 1 }, {},
		 }, NULL);
	test_ram(test, 0xbfffffff, pi4, board,
		 "RAM at 0xc0000000-0xfbffffff (the limit is 0xbfffffff)");
	test_ram(test, 0, pi4, board,
		 "RAM at 0xc0000000-0xfbffffff (the limit is 0xbfffffff)");
	/* The bus limit is below the end of the ranges */
	test_ram(test, SZ_2G - 1, pi4, board,
		 "RAM at 0x80000000-0xfbffffff (the limit is 0x7fffffff)");
	test_ram(test, 0, hole, board,
		 "RAM at 0x40000000-0xfbffffff (the limit is 0x3fffffff)");
	test_ram(test, 0, none, board, "RAM at 0x0-0x3b3fffff");
}

static void reach_test_offset(struct kunit *test)
{
	/* Raspberry Pi 5: registers, and RAM at 64 GiB */
	static const struct bus_dma_region pi5[] = {
		{ .cpu_start = 0x1f00000000, .size = SZ_4M },
		{ .dma_start = 0x1000000000, .size = 0x1000000000 }, {},
	};
	static const struct bus_dma_region registers[] = {
		{ .cpu_start = 0x1f00000000, .size = SZ_4M },
		{ .size = 0x1000000000 }, {},
	};
	/* Only part of the RAM is at another address */
	static const struct bus_dma_region half[] = {
		{ .size = SZ_4G },
		{ .cpu_start = SZ_4G, .dma_start = 0, .size = SZ_4G }, {},
	};

	test_ram(test, 0, pi5, board,
		 "RAM at another address (0x0 at 0x1000000000)" KERNEL_DRIVER);
	test_ram(test, 0, registers, board, NULL);
	test_ram(test, 0, half, board,
		 "RAM at another address (0x100000000 at 0x0)");
}

static struct kunit_case reach_cases[] = {
	KUNIT_CASE(reach_test_memory),
	KUNIT_CASE(reach_test_nothing_in_the_way),
	KUNIT_CASE(reach_test_limit),
	KUNIT_CASE(reach_test_same_address),
	KUNIT_CASE(reach_test_not_all_ram),
	KUNIT_CASE(reach_test_offset),
	{}
};

static struct kunit_suite reach_suite = {
	.name = "reach",
	.test_cases = reach_cases,
};

kunit_test_suites(&reach_suite);
