// SPDX-License-Identifier: GPL-2.0-only
/*
 * libnoiommufd on a kernel that is made up (fake.c): for tools that look for mistakes
 * in memory, and to have each system call fail in turn.
 *
 *	library each|fail|threads
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <libnoiommufd.h>

#include "fake.h"

#define PAGE		4096ULL
#define BLOCK		0x200000ULL
/* More than the library looks up at once */
#define SOME		700

#define expect(cond)							\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "line %d: expected %s (errno: %m)\n", \
				__LINE__, #cond);			\
			_exit(1);					\
		}							\
	} while (0)

static char *buffer;

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	expect(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void expect_pa(struct noiommufd_ioas *ioas, struct noiommufd_dma *dma)
{
	size_t at;

	for (at = 0; at < noiommufd_size(dma); at += PAGE) {
		char *va = (char *)noiommufd_va(dma) + at;

		expect(noiommufd_pa(dma, va + 7) == fake_pa(va + 7));
		expect(noiommufd_ioas_pa(ioas, va + 7) == fake_pa(va + 7));
	}
}

/* What allocates, maps or opens, as far as it goes; gives all of it back. */
static bool all(void)
{
	struct noiommufd_device *dev = noiommufd_open(FAKE_DEVICE, NULL);
	struct noiommufd_ioas *ioas, *second = NULL;
	struct noiommufd_dma *map = NULL, *small = NULL, *pa = NULL, *alloc = NULL;
	struct noiommufd_alloc_options how = {
		.size = sizeof(how), .flags = NOIOMMUFD_CONTIGUOUS, .below = 1ULL << 60,
	};
	char **list = NULL, **hit = NULL;
	struct noiommufd_run runs[4];
	__u64 length = PAGE, pages[4];
	__u32 word;
	bool done;

	if (!dev)
		return false;
	ioas = noiommufd_device_ioas(dev);
	done = (list = noiommufd_list()) &&
	       (hit = noiommufd_hot_reset_list(dev)) &&
	       (second = noiommufd_ioas_alloc(dev)) &&
	       noiommufd_bar(dev, 0) &&
	       !noiommufd_irq_enable(dev, NOIOMMUFD_MSIX, 4) &&
	       !noiommufd_irq_mask(dev, 2, true) &&
	       !noiommufd_irq_enable(dev, NOIOMMUFD_INTX, 1) &&
	       (map = noiommufd_map(ioas, buffer, SOME * PAGE, 0)) &&
	       noiommufd_ioas_pa(ioas, buffer) != NOIOMMUFD_NO_PA &&
	       /* Once more, and within an entry of the index for 2 MiB */
	       (small = noiommufd_map(ioas, buffer + 3 * PAGE, 2 * PAGE, 0)) &&
	       (pa = noiommufd_map(second, buffer, 9 * PAGE, NOIOMMUFD_IOVA_IS_PA)) &&
	       noiommufd_ioas_pa(second, buffer) != NOIOMMUFD_NO_PA &&
	       (alloc = noiommufd_alloc(ioas, scattered ? PAGE : 3 * PAGE, &how)) &&
	       !noiommufd_region_read(dev, NOIOMMUFD_CONFIG, 252, &word, 4) &&
	       !noiommufd_bus_master(dev, true) && !noiommufd_hot_reset(dev) &&
	       !noiommufd_reset(dev) &&
	       noiommufd_ioas_runs(ioas, noiommufd_iova(map), &length, runs, 4) == 1 &&
	       noiommufd_pages(map, buffer + 9, PAGE, PAGE, pages, 4) == 2;
	if (done) {
		expect(noiommufd_runs(map, buffer, SOME * PAGE, runs, 4) ==
		       (scattered ? SOME : 1));
		expect(pages[0] == fake_pa(buffer + 9) && pages[1] == fake_pa(buffer + PAGE));
		expect_pa(ioas, map);
		expect_pa(second, pa);
		expect_pa(ioas, alloc);
	}
	free(list);
	free(hit);
	noiommufd_free(map);
	if (small)
		expect_pa(ioas, small);
	noiommufd_free(small);
	noiommufd_free(pa);
	noiommufd_free(alloc);
	noiommufd_ioas_free(second);
	noiommufd_close(dev);
	return done;
}

static void each(void)
{
	int kind;

	for (kind = 0; kind < 4; kind++) {
		scattered = kind & 1;
		as_mainline = kind & 2;
		expect(all());
		expect(!fake_left());
	}
}

/* Each time something else fails; all() need not notice that there is another way. */
static void fail(void)
{
	int files = open_files(), kind, n;

	for (kind = 0; kind < 2; kind++) {
		scattered = kind & 1;
		for (n = 1; ; n++) {
			bool done;

			until_failure = n;
			done = all();
			if (!done)
				expect(errno == ENOMEM);
			if (until_failure)
				break;
			expect(!fake_left());
			expect(open_files() == files);
		}
		until_failure = 0;
		expect(n > 50);
		printf("%d failures\n", n - 1);
	}
}

/* Threads that map and free around a page that others look up */

static bool stop;

static void *work(void *ioas)
{
	int i;

	for (i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		size_t size = i % 3 ? PAGE : BLOCK;
		char *va = buffer + (i % 3) * PAGE;
		struct noiommufd_dma *dma = noiommufd_map(ioas, va, size, 0);

		expect(dma);
		expect(noiommufd_ioas_pa(ioas, va) == fake_pa(va));
		noiommufd_free(dma);
	}
	return NULL;
}

static void threads(void)
{
	struct noiommufd_device *dev = noiommufd_open(NULL, NULL);
	struct noiommufd_ioas *ioas;
	struct noiommufd_dma *dma;
	char *fixed = buffer + 9 * PAGE;
	pthread_t thread[3];
	int i;

	expect(dev);
	ioas = noiommufd_device_ioas(dev);
	dma = noiommufd_map(ioas, fixed, PAGE, 0);
	expect(dma);
	for (i = 0; i < 3; i++)
		expect(!pthread_create(&thread[i], NULL, work, ioas));
	for (i = 0; i < 200000; i++) {
		__u64 pa = noiommufd_ioas_pa(ioas, buffer);

		expect(pa == fake_pa(buffer) || pa == NOIOMMUFD_NO_PA);
		expect(noiommufd_ioas_pa(ioas, fixed + 1) == fake_pa(fixed + 1));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < 3; i++)
		expect(!pthread_join(thread[i], NULL));
	expect(noiommufd_ioas_pa(ioas, buffer) == NOIOMMUFD_NO_PA);
	noiommufd_free(dma);
	noiommufd_close(dev);
	expect(!fake_left());
}

int main(int argc, char **argv)
{
	buffer = aligned_alloc(BLOCK, 2 * BLOCK);
	expect(buffer && argc == 2);
	fake_kernel();
	if (!strcmp(argv[1], "each"))
		each();
	else if (!strcmp(argv[1], "fail"))
		fail();
	else
		threads();
	free(buffer);
	return 0;
}
