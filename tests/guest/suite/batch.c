// SPDX-License-Identifier: GPL-2.0-only
/*
 * NOIOMMUFD_IOAS_BATCH: each entry does what the ioctl does that it names, and
 * has its errno; what was done is known, however the batch ends.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define BASE		0x100000000ULL
#define FIXED_PA	(MAP_FIXED_RW | NOIOMMUFD_BATCH_TRANSLATE)
/* An answer that was not written */
#define UNTOUCHED	0x5a5a5a5aU
#define KERNEL_POINTER	0xffff888000000000ULL

static void setup_batch(struct setup *s)
{
	skip_on_mainline("it has no batches");
	setup_attached(s);
}

static struct noiommufd_batch_entry map_entry(__u32 ioas, const void *va,
					      __u64 length, __u64 iova)
{
	return (struct noiommufd_batch_entry){
		.op = NOIOMMUFD_BATCH_MAP, .flags = FIXED_PA, .ioas_id = ioas,
		.error = UNTOUCHED, .start = (uintptr_t)va, .length = length,
		.iova = iova,
	};
}

static struct noiommufd_batch_entry unmap_entry(__u32 ioas, __u64 iova,
						__u64 length)
{
	return (struct noiommufd_batch_entry){
		.op = NOIOMMUFD_BATCH_UNMAP, .ioas_id = ioas,
		.error = UNTOUCHED, .length = length, .iova = iova,
	};
}

static struct noiommufd_ioas_batch batch_of(const void *entries, __u32 num)
{
	return (struct noiommufd_ioas_batch){
		.size = sizeof(struct noiommufd_ioas_batch),
		.entry_size = sizeof(struct noiommufd_batch_entry), .num = num, .failed = UNTOUCHED,
		.entries = (uintptr_t)entries,
	};
}

static int run(int iommu, struct noiommufd_ioas_batch *batch)
{
	return ioctl(iommu, NOIOMMUFD_IOAS_BATCH, batch);
}

/* All of it succeeds. */
static void run_all(int iommu, struct noiommufd_batch_entry *entries, __u32 num)
{
	struct noiommufd_ioas_batch batch = batch_of(entries, num);

	expect_ok(run(iommu, &batch));
	expect_eq(batch.failed, 0);
	expect_eq(batch.done, num);
	while (num--)
		expect_eq(entries[num].error, 0);
}

/* It goes on after errors; returns how many there were. */
static __u32 run_on(int iommu, struct noiommufd_batch_entry *entries, __u32 num)
{
	struct noiommufd_ioas_batch batch = batch_of(entries, num);

	batch.flags = NOIOMMUFD_BATCH_CONTINUE;
	expect_ok(run(iommu, &batch));
	expect_eq(batch.done, num);
	return batch.failed;
}

static bool is_mapped(const struct setup *s, __u64 iova)
{
	__u64 length = 1, pa;

	return !get_pa(s->iommu, s->ioas, iova, &length, &pa);
}

/* What batches are for: map and translate many requests, and unmap them. */
TEST(map_translate_unmap)
{
	enum { NR = 32 };
	long long before = pins();
	char *va = mem(NR * 4 * PAGE);
	struct noiommufd_batch_entry e[NR];
	struct setup s;
	int round, i;

	setup_batch(&s);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < NR; i++) {
			e[i] = map_entry(s.ioas, va + i * 4 * PAGE,
					 (i % 3 + 1) * PAGE, BASE * (i + 1));
			if (round)
				e[i].flags &= ~IOMMU_IOAS_MAP_FIXED_IOVA;
		}
		run_all(s.iommu, e, NR);
		for (i = 0; i < NR; i++) {
			__u64 length = e[i].length, pa;

			expect_eq(e[i].iova, round ? e[i].iova : BASE * (i + 1));
			expect_ok(get_pa(s.iommu, s.ioas, e[i].iova, &length, &pa));
			expect_eq(e[i].phys, pa);
			expect_eq(e[i].phys_length, length);
			expect_eq(pa, pagemap_pa(va + i * 4 * PAGE));
		}
		expect(pins() > before);
		for (i = 0; i < NR; i++) {
			e[i].op = NOIOMMUFD_BATCH_UNMAP;
			e[i].flags = 0;
			e[i].error = UNTOUCHED;
		}
		run_all(s.iommu, e, NR);
		for (i = 0; i < NR; i++) {
			expect_eq(e[i].length, (i % 3 + 1) * PAGE);
			expect(!is_mapped(&s, e[i].iova));
		}
		expect_pins(before);
	}
}

/* The first run, and no more */
TEST(first_run)
{
	char *huge = hugetlb(1), *small;
	struct noiommufd_batch_entry e[3];
	struct setup s;
	__u64 run;

	setup_batch(&s);
	small = mem(16 * PAGE);
	e[0] = map_entry(s.ioas, huge + 5 * PAGE, HUGE_PAGE - 5 * PAGE, BASE);
	e[1] = map_entry(s.ioas, small, 16 * PAGE, 2 * BASE);
	e[2] = map_entry(s.ioas, huge, PAGE, 3 * BASE);
	e[2].flags = MAP_FIXED_RW;
	e[2].phys = UNTOUCHED;
	e[2].phys_length = UNTOUCHED;
	run_all(s.iommu, e, 3);
	expect_eq(e[0].phys, pagemap_pa(huge) + 5 * PAGE);
	expect_eq(e[0].phys_length, HUGE_PAGE - 5 * PAGE);
	expect_eq(e[1].phys, pagemap_pa(small));
	for (run = PAGE; run < 16 * PAGE; run += PAGE)
		if (pagemap_pa(small + run) != e[1].phys + run)
			break;
	expect_eq(e[1].phys_length, run);
	/* It was not asked for. */
	expect_eq(e[2].phys, UNTOUCHED);
	expect_eq(e[2].phys_length, UNTOUCHED);
}

TEST(files)
{
	int fd = expect_ok(memfd_create("suite", 0));
	struct noiommufd_batch_entry e[3];
	struct setup s;
	char *va;

	setup_batch(&s);
	expect_ok(ftruncate(fd, 8 * PAGE));
	va = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	expect(va != MAP_FAILED);
	memset(va, 1, 8 * PAGE);
	e[0] = map_entry(s.ioas, NULL, 5 * PAGE, BASE);
	e[0].op = NOIOMMUFD_BATCH_MAP_FILE;
	e[0].fd = fd;
	e[0].start = 3 * PAGE;
	e[1] = e[0];
	e[1].iova = 2 * BASE;
	e[1].length = 6 * PAGE;
	e[2] = e[0];
	e[2].iova = 3 * BASE;
	e[2].fd = -1;
	expect_eq(run_on(s.iommu, e, 3), 2);
	expect_eq(e[0].error, 0);
	expect_eq(e[0].phys, pagemap_pa(va + 3 * PAGE));
	expect_pas(&s, BASE, va + 3 * PAGE, 5 * PAGE);
	expect_eq(e[1].error, EINVAL);
	expect_eq(e[2].error, EBADF);
}

/* Each errno is that of the ioctl, and the others are carried out. */
TEST(each_has_its_errno)
{
	char *va = mem(4 * PAGE), *gone = mem(PAGE), *ro;
	struct setup s, other;
	struct noiommufd_batch_entry e[24], want;
	__u64 iova, length;
	__u32 i, n = 0, id;
	long long before;
	int rc;

	setup_batch(&s);
	other.iommu = iommu_open();
	for (i = 0; i < 8; i++)
		id = new_ioas(other.iommu);
	expect_ok(munmap(gone, PAGE));
	ro = mem_flags(PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS);
	before = pins();

	e[n++] = map_entry(s.ioas, va, 2 * PAGE, BASE);
	/* Overlaps it, at either end; then one beside it */
	e[n++] = map_entry(s.ioas, va, 2 * PAGE, BASE + PAGE);
	e[n++] = map_entry(s.ioas, va, 2 * PAGE, BASE - PAGE);
	e[n++] = map_entry(s.ioas, va, 2 * PAGE, BASE + 2 * PAGE);
	e[n++] = map_entry(id, va, PAGE, 2 * BASE);
	e[n++] = map_entry(s.hwpt, va, PAGE, 2 * BASE);
	e[n++] = map_entry(0, va, PAGE, 2 * BASE);
	e[n++] = map_entry(s.ioas, gone, PAGE, 2 * BASE);
	e[n++] = map_entry(s.ioas, ro, PAGE, 2 * BASE);
	e[n++] = map_entry(s.ioas, va, 0, 2 * BASE);
	e[n++] = map_entry(s.ioas, va, PAGE, 2 * BASE + 1);
	e[n++] = map_entry(s.ioas, va, PAGE, U64_MAX);
	e[n++] = map_entry(s.ioas, va, U64_MAX, 2 * BASE);
	e[n++] = map_entry(s.ioas, va, 2 * PAGE, -PAGE);
	e[n++] = map_entry(s.ioas, (void *)-PAGE, 2 * PAGE, 2 * BASE);
	e[n] = map_entry(s.ioas, va, PAGE, 2 * BASE);
	e[n++].flags = NOIOMMUFD_BATCH_TRANSLATE;
	e[n] = map_entry(s.ioas, va, PAGE, 2 * BASE);
	e[n++].flags |= 1 << 3;
	e[n++] = unmap_entry(s.ioas, BASE, PAGE);
	e[n++] = unmap_entry(s.ioas, 2 * BASE, PAGE);
	e[n++] = unmap_entry(s.ioas, BASE, 0);
	e[n++] = unmap_entry(s.ioas, -PAGE, 2 * PAGE);
	e[n++] = unmap_entry(id, BASE, PAGE);
	e[n++] = unmap_entry(s.ioas, BASE, 4 * PAGE);
	expect(n <= ARRAY_SIZE(e));
	/* All of these but three fail, the 1st, the 4th and the last one. */
	expect_eq(run_on(s.iommu, e, n), n - 3);
	expect_eq(pins(), before);

	/* The same by single ioctls */
	for (i = 0; i < n; i++) {
		want = e[i];
		iova = want.iova;
		if (want.op == NOIOMMUFD_BATCH_MAP)
			rc = ioas_map_flags(s.iommu, want.ioas_id,
					    want.flags & ~NOIOMMUFD_BATCH_TRANSLATE,
					    (void *)want.start, want.length,
					    &iova);
		else
			rc = ioas_unmap(s.iommu, want.ioas_id, iova,
					want.length, &length);
		if (want.error != (rc ? (__u32)errno : 0))
			fail("entry %u: expected %s, got %s", i,
			     rc ? strerrorname_np(errno) : "success",
			     strerrorname_np(want.error));
	}
}

/* What no ioctl has */
TEST(bad_entries)
{
	char *va = mem(PAGE);
	struct noiommufd_batch_entry e[5];
	struct setup s;
	int i;

	setup_batch(&s);
	for (i = 0; i < 5; i++)
		e[i] = map_entry(s.ioas, va, PAGE, BASE + i * PAGE);
	e[0].op = 0;
	e[1].op = 4;
	e[2].__reserved = 1;
	e[3] = unmap_entry(s.ioas, BASE, PAGE);
	e[3].flags = NOIOMMUFD_BATCH_TRANSLATE;
	expect_eq(run_on(s.iommu, e, 5), 4);
	for (i = 0; i < 4; i++)
		expect_eq(e[i].error, EOPNOTSUPP);
	expect_eq(e[4].error, 0);
	expect(is_mapped(&s, BASE + 4 * PAGE));
}

/* It stops at an entry that fails, and the same ioctl goes on after it. */
TEST(stops_and_goes_on)
{
	struct noiommufd_ioas_batch batch;
	char *va = mem(PAGE);
	struct setup s;
	struct noiommufd_batch_entry e[6];
	int i;

	setup_batch(&s);
	for (i = 0; i < 6; i++)
		e[i] = map_entry(s.ioas, va, PAGE, BASE + i / 2 * PAGE);
	batch = batch_of(e, 6);
	for (i = 1; i < 6; i += 2) {
		expect_ok(run(s.iommu, &batch));
		expect_eq(batch.failed, 1);
		expect_eq(batch.done, i + 1);
		expect_eq(e[i - 1].error, 0);
		expect_eq(e[i].error, EEXIST);
		if (i < 5) {
			expect_eq(e[i + 1].error, UNTOUCHED);
			expect(!is_mapped(&s, BASE + (i + 1) / 2 * PAGE));
		}
	}
	/* There is nothing left. */
	expect_errno(run(s.iommu, &batch), EINVAL);
	expect_eq(batch.done, 6);
}

/* What cannot be translated is not mapped either. */
TEST(translation_fails)
{
	char *va = mem(PAGE);
	long long before;
	struct setup s;
	struct noiommufd_batch_entry e[3];
	__u64 done;

	skip_on_mainline("it has no batches");
	setup_bound(&s);
	before = pins();
	e[0] = map_entry(s.ioas, va, PAGE, BASE);
	e[1] = map_entry(s.ioas, va, PAGE, 2 * BASE);
	e[1].flags = MAP_FIXED_RW;
	e[2] = map_entry(s.ioas, va, PAGE, 3 * BASE);
	expect_eq(run_on(s.iommu, e, 3), 2);
	expect_eq(e[0].error, EOPNOTSUPP);
	expect_eq(e[1].error, 0);
	expect_eq(e[2].error, EOPNOTSUPP);
	expect_eq(pins(), before);
	expect_errno(ioas_unmap(s.iommu, s.ioas, BASE, PAGE, &done), ENOENT);
	expect_ok(ioas_unmap(s.iommu, s.ioas, 2 * BASE, PAGE, &done));
	expect_errno(ioas_unmap(s.iommu, s.ioas, 3 * BASE, PAGE, &done), ENOENT);
}

static void batch_without_capability(void *arg)
{
	const struct setup *s = arg;
	char *va = mem(PAGE);
	struct noiommufd_batch_entry e[2] = {
		map_entry(s->ioas, va, PAGE, BASE),
		map_entry(s->ioas, va, PAGE, 2 * BASE),
	};

	drop_cap(CAP_SYS_RAWIO);
	e[1].flags = MAP_FIXED_RW;
	expect_eq(run_on(s->iommu, e, 2), 1);
	expect_eq(e[0].error, EPERM);
	expect_eq(e[1].error, 0);
	e[1] = unmap_entry(s->ioas, 2 * BASE, PAGE);
	run_all(s->iommu, e + 1, 1);
}

TEST(translation_needs_a_capability)
{
	struct setup s;
	__u64 done;

	setup_batch(&s);
	in_child(batch_without_capability, &s);
	expect_errno(ioas_unmap(s.iommu, s.ioas, BASE, PAGE, &done), ENOENT);
}

/* Several IOASes in turn, each named more than once */
TEST(many_address_spaces)
{
	enum { NR = 64 };
	char *va = mem(PAGE);
	struct noiommufd_batch_entry e[NR + 3];
	struct setup s;
	__u32 ioas[3];
	int i;

	setup_batch(&s);
	for (i = 0; i < 3; i++) {
		__u32 hwpt;

		ioas[i] = new_ioas(s.iommu);
		expect_ok(hwpt_alloc(s.iommu, s.devid, ioas[i], &hwpt));
	}
	for (i = 0; i < NR; i++)
		e[i] = map_entry(ioas[i * i % 3], va, PAGE, BASE + i * PAGE);
	for (i = 0; i < 3; i++)
		e[NR + i] = unmap_entry(ioas[i], 0, U64_MAX);
	/* i * i % 3 is never 2. */
	run_all(s.iommu, e, NR + 3);
	for (i = 0; i < NR; i++)
		expect_eq(e[i].phys, pagemap_pa(va));
	expect_eq(e[NR].length + e[NR + 1].length, NR * PAGE);
	expect_eq(e[NR + 2].length, 0);
}

/* Each entry is charged, and uncharged if it fails. */
TEST(memory_limit)
{
	char *va = mem(8 * PAGE);
	struct setup s;
	struct noiommufd_batch_entry e[8];
	int i;

	setup_batch(&s);
	drop_cap(CAP_IPC_LOCK);
	set_memlock(5 * PAGE);
	for (i = 0; i < 8; i++)
		e[i] = map_entry(s.ioas, va, 2 * PAGE, BASE + i * 2 * PAGE);
	e[7].length = PAGE;
	expect_eq(run_on(s.iommu, e, 8), 5);
	for (i = 0; i < 8; i++)
		expect_eq(e[i].error, i < 2 || i == 7 ? 0 : ENOMEM);
	expect_eq(vm_pin(), 5 * PAGE / KIB);
}

static void expect_refused(const struct setup *s,
			   struct noiommufd_ioas_batch batch, int err)
{
	const struct noiommufd_ioas_batch before = batch;

	expect_errno(run(s->iommu, &batch), err);
	expect(!memcmp(&batch, &before, sizeof(batch)));
}

TEST(bad_arguments)
{
	struct noiommufd_ioas_batch batch, good;
	struct noiommufd_batch_entry *e = mem(2 * PAGE);
	struct setup s;
	int i;

	setup_batch(&s);
	e[0] = map_entry(s.ioas, mem(PAGE), PAGE, BASE);
	good = batch_of(e, 1);
	for (i = 1; i < 32; i++) {
		batch = good;
		batch.flags = 1U << i;
		expect_refused(&s, batch, EOPNOTSUPP);
	}
	batch = good;
	batch.num = 0;
	expect_refused(&s, batch, EINVAL);
	batch.num = U32_MAX;
	expect_refused(&s, batch, EINVAL);
	batch.num = NOIOMMUFD_BATCH_MAX + 1;
	expect_refused(&s, batch, EINVAL);
	batch = good;
	batch.done = 1;
	expect_refused(&s, batch, EINVAL);
	batch.done = U32_MAX;
	expect_refused(&s, batch, EINVAL);
	for (i = 0; i < 64; i++) {
		batch = good;
		batch.entry_size = i;
		expect_refused(&s, batch, EINVAL);
	}
	for (i = 65; i < 72; i++) {
		batch.entry_size = i;
		expect_refused(&s, batch, EINVAL);
	}
	batch.entry_size = PAGE + 8;
	expect_refused(&s, batch, E2BIG);
	batch.entry_size = U32_MAX;
	expect_refused(&s, batch, E2BIG);
	expect_eq(e[0].error, UNTOUCHED);
	expect(!is_mapped(&s, BASE));

	/* Arrays that are nowhere */
	for (i = 0; i < 3; i++) {
		batch = good;
		batch.entries = i == 0 ? 0 : i == 1 ? KERNEL_POINTER : -32ULL;
		expect_errno(run(s.iommu, &batch), EFAULT);
		expect_eq(batch.done, 0);
		expect_eq(batch.failed, 0);
	}
	expect_errno(run(s.iommu, NULL), EFAULT);
	expect_errno(run(s.iommu, (void *)KERNEL_POINTER), EFAULT);

	/* A struct that cannot be written: nothing is begun. */
	memcpy((char *)e + PAGE, &good, sizeof(good));
	expect_ok(mprotect((char *)e + PAGE, PAGE, PROT_READ));
	expect_errno(run(s.iommu, (void *)((char *)e + PAGE)), EFAULT);
	expect_eq(e[0].error, UNTOUCHED);
	expect(!is_mapped(&s, BASE));
	expect_ok(run(s.iommu, &good));
}

TEST(struct_sizes)
{
	struct {
		struct noiommufd_ioas_batch batch;
		__u64 more[2];
	} u = {};
	struct setup s;
	struct noiommufd_batch_entry e;

	setup_batch(&s);
	e = map_entry(s.ioas, mem(PAGE), PAGE, BASE);
	expect_eq(sizeof(u.batch), 32);
	expect_eq(sizeof(e), 64);
	u.batch = batch_of(&e, 1);
	u.batch.size = 31;
	expect_errno(run(s.iommu, &u.batch), EINVAL);
	u.batch.size = sizeof(u);
	u.more[1] = 1;
	expect_errno(run(s.iommu, &u.batch), E2BIG);
	expect_eq(e.error, UNTOUCHED);
	u.more[1] = 0;
	expect_ok(run(s.iommu, &u.batch));
	expect_eq(e.error, 0);
}

/* A program that knows a longer entry */
TEST(entry_sizes)
{
	static const __u32 sizes[] = { 72, 128, 1000, PAGE };
	struct noiommufd_ioas_batch batch;
	char *va = mem(PAGE), *array;
	struct setup s;
	unsigned int i;

	setup_batch(&s);
	array = mem(4 * PAGE);
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct noiommufd_batch_entry *e[3];
		int k;

		for (k = 0; k < 3; k++) {
			e[k] = (struct noiommufd_batch_entry *)(array + k * sizes[i]);
			*e[k] = map_entry(s.ioas, va, PAGE, BASE + k * PAGE);
		}
		/* The last byte of the second one means something. */
		array[2 * sizes[i] - 1] = 1;
		batch = batch_of(array, 3);
		batch.entry_size = sizes[i];
		expect_ok(run(s.iommu, &batch));
		expect_eq(batch.done, 2);
		expect_eq(batch.failed, 1);
		expect_eq(e[0]->error, 0);
		expect_eq(e[1]->error, E2BIG);
		expect_eq(e[2]->error, UNTOUCHED);
		expect(!is_mapped(&s, BASE + PAGE));
		expect_ok(run(s.iommu, &batch));
		expect_eq(batch.done, 3);
		expect_eq(e[2]->error, 0);
		expect_eq(array[2 * sizes[i] - 1], 1);
		array[2 * sizes[i] - 1] = 0;
		expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, NULL));
		memset(array, 0, 4 * PAGE);
	}
}

/*
 * An array whose second page cannot be accessed as it should: what is before that
 * is done and answered, and nothing else.
 */
static void half_way(const struct setup *s, int prot, unsigned int odd)
{
	enum { FIRST = PAGE / sizeof(struct noiommufd_batch_entry), NR = FIRST + 8 };
	char *array = mem(2 * PAGE), *va = mem(PAGE);
	struct noiommufd_batch_entry *e = (struct noiommufd_batch_entry *)(array + odd);
	struct noiommufd_ioas_batch batch = batch_of(e, NR);
	unsigned int whole = FIRST - (odd ? 1 : 0), i;
	long long before = pins();

	for (i = 0; i < NR; i++)
		e[i] = map_entry(s->ioas, va, PAGE, BASE + i * PAGE);
	expect_ok(mprotect(array + PAGE, PAGE, prot));
	for (i = 0; i < 2; i++) {
		/* Going on has the same end. */
		expect_errno(run(s->iommu, &batch), EFAULT);
		expect_eq(batch.done, whole);
		expect_eq(batch.failed, 0);
	}
	for (i = 0; i < NR; i++) {
		if (i < whole)
			expect_eq(e[i].error, 0);
		expect_eq(is_mapped(s, BASE + i * PAGE), i < whole);
	}
	expect_eq(pins(), before + whole);

	/* Then it can be accessed again. */
	expect_ok(mprotect(array + PAGE, PAGE, PROT_READ | PROT_WRITE));
	expect_ok(run(s->iommu, &batch));
	expect_eq(batch.done, NR);
	expect_eq(batch.failed, 0);
	expect_ok(ioas_unmap(s->iommu, s->ioas, 0, U64_MAX, NULL));
}

TEST(array_faults_half_way)
{
	struct setup s;

	setup_batch(&s);
	half_way(&s, PROT_NONE, 0);
	half_way(&s, PROT_READ, 0);
	half_way(&s, PROT_NONE, 48);
	half_way(&s, PROT_READ, 48);
}

/* Of an entry its errno can be written, and the rest of the answer cannot. */
TEST(answer_is_cut)
{
	enum { LAST = PAGE / sizeof(struct noiommufd_batch_entry) - 1 };
	struct noiommufd_ioas_batch batch;
	char *va = mem(PAGE), *array;
	struct setup s;
	unsigned int odd, i;

	setup_batch(&s);
	for (odd = 8; odd <= 24; odd += 8) {
		struct noiommufd_batch_entry *e;

		array = mem(2 * PAGE);
		e = (struct noiommufd_batch_entry *)(array + odd);
		for (i = 0; i < LAST + 2; i++)
			e[i] = map_entry(s.ioas, va, PAGE, BASE + i * PAGE);
		expect_ok(mprotect(array + PAGE, PAGE, PROT_READ));
		batch = batch_of(e, LAST + 2);
		expect_ok(run(s.iommu, &batch));
		expect_eq(batch.done, LAST + 1);
		expect_eq(batch.failed, 1);
		expect_eq(e[LAST].error, EFAULT);
		expect(!is_mapped(&s, BASE + LAST * PAGE));
		expect_errno(run(s.iommu, &batch), EFAULT);
		expect_eq(batch.done, LAST + 1);
		expect_ok(ioas_unmap(s.iommu, s.ioas, 0, U64_MAX, NULL));
	}
}

/* An UNMAP that was carried out counts, even if that cannot be written down. */
TEST(unmap_faults)
{
	struct noiommufd_ioas_batch batch;
	char *va = mem(PAGE);
	struct setup s;
	struct noiommufd_batch_entry *e;
	int i;

	setup_batch(&s);
	e = mem(PAGE);
	for (i = 0; i < 4; i++) {
		e[i] = map_entry(s.ioas, va, PAGE, BASE + i * PAGE);
		e[i].flags = MAP_FIXED_RW;
	}
	run_all(s.iommu, e, 4);
	for (i = 0; i < 4; i++)
		e[i] = unmap_entry(s.ioas, BASE + i * PAGE, PAGE);
	e[2].iova = 2 * BASE;
	batch = batch_of(e, 4);
	expect_ok(mprotect(e, PAGE, PROT_READ));
	for (i = 0; i < 2; i++) {
		expect_errno(run(s.iommu, &batch), EFAULT);
		expect_eq(batch.done, i + 1);
		expect(!is_mapped(&s, BASE + i * PAGE));
		expect(is_mapped(&s, BASE + (i + 1) * PAGE));
	}
	/* One that fails has done nothing, and is not counted. */
	expect_errno(run(s.iommu, &batch), EFAULT);
	expect_eq(batch.done, 2);
	expect_ok(mprotect(e, PAGE, PROT_READ | PROT_WRITE));
	expect_ok(run(s.iommu, &batch));
	expect_eq(batch.done, 3);
	expect_eq(e[2].error, ENOENT);
}

TEST(largest)
{
	struct noiommufd_batch_entry *e = mem(NOIOMMUFD_BATCH_MAX * sizeof(*e));
	char *va = mem(PAGE);
	struct setup s;
	int i;

	setup_batch(&s);
	for (i = 0; i < NOIOMMUFD_BATCH_MAX; i++)
		e[i] = map_entry(s.ioas, va, PAGE, BASE + i * PAGE);
	run_all(s.iommu, e, NOIOMMUFD_BATCH_MAX);
	for (i = 0; i < NOIOMMUFD_BATCH_MAX; i++) {
		expect_eq(e[i].phys, pagemap_pa(va));
		e[i] = unmap_entry(s.ioas, BASE + i * PAGE, PAGE);
	}
	run_all(s.iommu, e, NOIOMMUFD_BATCH_MAX);
}

/* A batch that waits for memory, of an entry or of the array, until it is filled */

static struct stalled {
	struct setup s;
	struct noiommufd_ioas_batch *batch;
	struct noiommufd_batch_entry *e;
	char *hole;
	int rc;
	int err;
} st;

static void *run_stalled(void *arg)
{
	st.rc = run(st.s.iommu, st.batch);
	st.err = errno;
	return arg;
}

static char *untouched(size_t size)
{
	char *va = mmap(NULL, size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	expect(va != MAP_FAILED);
	madvise(va, size, MADV_NOHUGEPAGE);
	return va;
}

/* The third of four entries stalls; this process is killed then. */
static void killed_in_the_middle(void *arg)
{
	struct uffdio_range range = { .len = PAGE };
	pthread_t thread;
	int fd;

	st.hole = untouched(PAGE);
	range.start = (uintptr_t)st.hole;
	fd = userfault_open(&range);
	st.e[2].start = (uintptr_t)st.hole;
	expect_eq(pthread_create(&thread, NULL, run_stalled, NULL), 0);
	userfault_wait(fd);
	set_flag(arg);
	for (;;)
		pause();
}

TEST(killed)
{
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *va = mem(PAGE);
	bool *stalls;
	int i, fd;
	pid_t pid;

	setup_batch(&st.s);
	fd = userfault_open(&(struct uffdio_range){ (uintptr_t)untouched(PAGE), PAGE });
	close(fd);
	expect(shared != MAP_FAILED);
	st.e = (struct noiommufd_batch_entry *)shared;
	st.batch = (void *)(st.e + 4);
	stalls = (bool *)(st.batch + 1);
	for (i = 0; i < 4; i++)
		st.e[i] = map_entry(st.s.ioas, va, PAGE, BASE + i * PAGE);
	*st.batch = batch_of(st.e, 4);
	pid = fork();
	expect(pid >= 0);
	if (!pid) {
		killed_in_the_middle(stalls);
		_exit(1);
	}
	while (!flag(stalls))
		sleep_ms(10);
	expect_ok(kill(pid, SIGKILL));
	expect_eq(waitpid(pid, NULL, 0), pid);
	/* The struct and the array are in memory of ours as well. */
	expect_eq(st.batch->done, 2);
	expect_eq(st.batch->failed, 0);
	for (i = 0; i < 4; i++) {
		expect_eq(st.e[i].error, i < 2 ? 0 : UNTOUCHED);
		expect_eq(is_mapped(&st.s, BASE + i * PAGE), i < 2);
	}
	expect_ok(run(st.s.iommu, st.batch));
	expect_eq(st.e[2].error, EFAULT);
	expect_ok(run(st.s.iommu, st.batch));
	expect_eq(st.batch->done, 4);
}

static unsigned int alarms;

static void count_alarm(int sig)
{
	(void)sig;
	alarms++;
}

/* A signal that does not kill changes nothing. */
TEST(signals)
{
	struct itimerval timer = {
		.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000,
	};
	struct noiommufd_batch_entry *e = mem(NOIOMMUFD_BATCH_MAX * sizeof(*e));
	char *va = mem(PAGE);
	struct setup s;
	int i, round;

	setup_batch(&s);
	signal(SIGALRM, count_alarm);
	expect_ok(setitimer(ITIMER_REAL, &timer, NULL));
	for (round = 0; round < 4 || alarms < 10; round++) {
		for (i = 0; i < NOIOMMUFD_BATCH_MAX; i++)
			e[i] = i % 2 ? unmap_entry(s.ioas, BASE, PAGE) :
				       map_entry(s.ioas, va, PAGE, BASE);
		run_all(s.iommu, e, NOIOMMUFD_BATCH_MAX);
	}
}

/*
 * Between two entries nothing is held: an IOAS can be destroyed, and the next
 * entry finds the one that has its id then.
 */
TEST(destroyed_half_way)
{
	enum { FIRST = PAGE / sizeof(struct noiommufd_batch_entry) };
	struct uffdio_copy copy = { .len = PAGE };
	struct noiommufd_ioas_batch batch;
	char *va = mem(PAGE), *array;
	struct noiommufd_batch_entry next[FIRST];
	long long before;
	pthread_t thread;
	unsigned int i;
	__u64 done;
	__u32 ioas;
	int fd;

	setup_batch(&st.s);
	before = vm_pin();
	array = untouched(2 * PAGE);
	st.e = (struct noiommufd_batch_entry *)array;
	ioas = new_ioas(st.s.iommu);
	for (i = 0; i < FIRST; i++) {
		st.e[i] = map_entry(ioas, va, PAGE, BASE + i * PAGE);
		st.e[i].flags = MAP_FIXED_RW;
		next[i] = st.e[i];
	}
	fd = userfault_open(&(struct uffdio_range){ (uintptr_t)array + PAGE, PAGE });
	batch = batch_of(st.e, FIRST + 2);
	st.batch = &batch;
	expect_eq(pthread_create(&thread, NULL, run_stalled, NULL), 0);
	userfault_wait(fd);
	expect_ok(object_destroy(st.s.iommu, ioas));
	expect_eq(new_ioas(st.s.iommu), ioas);
	copy.dst = (uintptr_t)array + PAGE;
	copy.src = (uintptr_t)next;
	expect_ok(ioctl(fd, UFFDIO_COPY, &copy));
	expect_eq(pthread_join(thread, NULL), 0);
	expect_eq(st.rc, 0);
	expect_eq(batch.done, FIRST + 2);
	expect_eq(batch.failed, 0);
	expect_ok(ioas_unmap(st.s.iommu, ioas, 0, U64_MAX, &done));
	expect_eq(done, 2 * PAGE);
	expect_eq(vm_pin(), before);
}
