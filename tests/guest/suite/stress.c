// SPDX-License-Identifier: GPL-2.0-only
/*
 * Eight threads and their children randomly do everything that can be done to
 * three contexts and two devices that they share, and compare with a model: each
 * translation is that of the mapped memory, to the byte, or there is none; an id
 * belongs to one object; no other process has the mapped memory; and after
 * everything is unmapped and closed, no pin, charge or table is left.
 *
 *	STRESS_SECONDS=n  how long (default: 120 on a kernel with lockdep, 10 on others)
 *	STRESS_SEED=n     seed of the random numbers (default: the time; printed)
 *
 * Both may be on the kernel's command line.
 *
 * How the model can be exact although no thread waits for another: everything that
 * an ioctl may change has a turn. A thread that begins one while another is inside
 * makes both crowded, and the state unknown until a thread that is alone finds it
 * out. A thread that only reads, and sees the same turn before and after its
 * ioctl, knows the right answer. In all other cases the answer has to be a
 * possible one. One mutex guards the model and all turns; it is never held during
 * an ioctl that is tested.
 */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB	4
#endif

/* Seconds until everything is closed, and leaks are looked for */
#define ROUND		5
#define THREADS		8
#define CONTEXTS	3
#define DEVICES		2
#define SPACES		4
#define HWPTS		2
/* Areas of an IOAS: at fixed IOVAs, and at IOVAs that the kernel chooses */
#define FIXED		12
#define AUTOMATIC	6
#define AREAS		(FIXED + AUTOMATIC)
#define MAX_PAGES	64

/* Above all IOVAs that the kernel chooses */
#define FIXED_IOVA	GIB
#define PITCH		MIB
/*
 * At a fixed IOVA, only memory is mapped whose page number is congruent to the page
 * number of the IOVA. This can be checked for any answer, whatever races.
 */
#define CLASSES		4

/* In /proc/kpageflags; a page of a process has it until it is freed. */
#define KPF_ANON	0x1000

/* Physical pages that the tables below have room for: 16 GiB */
#define PFNS		(4 * MIB)
#define IDS		1024
#define MEMLOCK		(128 * MIB)

enum call {
	CALL_MAP_FIXED, CALL_MAP_AUTOMATIC, CALL_MAP_LAZY, CALL_MAP_FILE,
	CALL_MAP_HUGE, CALL_COPY, CALL_UNMAP, CALL_UNMAP_ALL, CALL_GET_PA,
	CALL_GET_PA_RUNS, CALL_IOAS_ALLOC, CALL_DESTROY_IOAS, CALL_HWPT_ALLOC,
	CALL_DESTROY_HWPT, CALL_IOVA_RANGES, CALL_ALLOW_IOVAS,
	CALL_CHANGE_PROCESS, CALL_OPTION, CALL_FAULT_ALLOC, CALL_BIND,
	CALL_ATTACH, CALL_REPLACE, CALL_DETACH, CALL_CLOSE_DEVICE,
	CALL_CLOSE_IOMMUFD, CALL_CHILD_MAP, CALL_CHILD_EXIT, CALL_CHILD_KILL,
	CALLS,
};

static const char *const call_name[] = {
	"MAP fixed", "MAP automatic", "MAP lazy", "MAP_FILE", "MAP huge",
	"COPY", "UNMAP", "UNMAP all", "GET_PA", "GET_PA_RUNS", "IOAS_ALLOC",
	"DESTROY ioas", "HWPT_ALLOC", "DESTROY hwpt", "IOVA_RANGES",
	"ALLOW_IOVAS", "CHANGE_PROCESS", "OPTION", "FAULT_QUEUE_ALLOC", "BIND",
	"ATTACH", "ATTACH as replace", "DETACH", "close device",
	"close iommufd", "a child's MAP", "a child's exit", "a child killed",
};

#define ERRNOS	134

/* Progress of a child, for its parent */
struct journal {
	enum { NOTHING, MAPPING, DONE, UNMAPPING } phase;
	unsigned int pages;
	__u64 pa[MAX_PAGES];
	/* The result of its last MAP; a translation that is not its memory */
	int err;
	__u64 wrong, right;
};

/* Shared with children */
static struct {
	unsigned long calls[CALLS][ERRNOS];
	/* For each physical page, the number of the memory page, or 0 */
	__u32 number[PFNS];
	/* Areas that certainly pin a page whose process has ended */
	__u8 owned[PFNS];
	struct journal journal[THREADS];
} *shared;

/* Pages of processes that come and go are numbered from here. */
#define FOREIGN		MIB

/* The model */

struct turn {
	unsigned int inside;
	bool crowded;
	unsigned long nr;
};

struct area {
	struct turn turn;
	enum { FREE, MAPPED, UNKNOWN } state;
	__u64 iova;
	/* Two neighbours, if not 0: the first one's pages */
	unsigned int pages, split;
	/* The device may write to it */
	bool writable;
	/* Of a file; of a process that is gone; none at all */
	bool file, foreign, bad;
	/* It counts in shared->owned. */
	bool owned;
	/* Where it is mapped in this process, if at all */
	const char *va;
	__u64 pa[MAX_PAGES];
};

struct hwpt {
	struct turn turn;
	bool alive;
	__u32 id;
};

struct space {
	struct turn turn;
	bool alive;
	__u32 id;
	struct hwpt hwpts[HWPTS];
	struct turn allowed_turn;
	unsigned int allowed;
	/* Number of IOASes that were here */
	unsigned long births;
	struct area areas[AREAS];
};

struct context {
	int fd;
	bool open, closing;
	/* All memory is of files, and charged to the process */
	bool files_only, by_process;
	/* Threads inside, in total and by id */
	unsigned int users;
	unsigned int id_users[IDS];
	/* Uses of ids that have ended, and which one was an id's last */
	unsigned long uses, last_use[IDS];
	/* Ioctls that may make or end an HWPT: inside, and in total */
	unsigned int hwpt_calls;
	unsigned long hwpt_nr;
	struct space spaces[SPACES];
};

struct device {
	const char *bdf;
	struct turn turn;
	int fd;
	__u32 devid;
	/* The context it is bound to */
	struct context *ctx;
	enum { DETACHED, ATTACHED, ANYHOW } state;
	__u32 hwpt;
	struct hwpt *manual;
	struct space *automatic;
	/* A thread is closing it and opening it again; how often that happened */
	bool moving;
	unsigned long moves;
};

static struct context contexts[CONTEXTS];
static struct device devices[DEVICES];
static pthread_mutex_t model = PTHREAD_MUTEX_INITIALIZER;
static bool stop;
static unsigned long exact, loose;

/* Mapped memory */
struct pool {
	char *va;
	int fd;
	unsigned int pages;
	__u32 number;
	__u64 *pa;
};

enum { SMALL_FILE, SMALL, LARGE, HUGE_FILE, POOLS };
static struct pool pools[POOLS];
static char *no_memory;

struct me {
	unsigned int nr;
	__u64 random;
};

/* Only the first thread that finds a mistake reports it. */
static void be_the_first(void)
{
	static int failed;

	if (__atomic_exchange_n(&failed, 1, __ATOMIC_SEQ_CST))
		for (;;)
			pause();
}

#define broken(...) \
	do { \
		be_the_first(); \
		fail(__VA_ARGS__); \
	} while (0)

static unsigned int draw(struct me *me, unsigned int below)
{
	me->random ^= me->random << 13;
	me->random ^= me->random >> 7;
	me->random ^= me->random << 17;
	return (me->random >> 16) % below;
}

static bool one_in(struct me *me, unsigned int n)
{
	return !draw(me, n);
}

static void lock(void)
{
	pthread_mutex_lock(&model);
}

static void unlock(void)
{
	pthread_mutex_unlock(&model);
}

/* Result of an ioctl: 0 or the errno */
static int answer(enum call call, int ret)
{
	int err = ret < 0 ? errno : 0;

	__atomic_add_fetch(&shared->calls[call][err < ERRNOS ? err : 0], 1,
			   __ATOMIC_RELAXED);
	return err;
}

static void check_one_of(const char *what, int err, const int *errs)
{
	for (; *errs >= 0; errs++)
		if (err == *errs)
			return;
	broken("%s: expected an answer that could be, got %s", what,
	       err ? strerrorname_np(err) : "success");
}

#define one_of(what, err, ...) \
	check_one_of(what, err, (const int[]) { __VA_ARGS__, -1 })

static void must(const char *what, int err, int want)
{
	exact++;
	if (err != want)
		broken("%s: expected %s, got %s", what,
		       want ? strerrorname_np(want) : "success",
		       err ? strerrorname_np(err) : "success");
}

/* Turns */

static void turn_begin(struct turn *turn)
{
	if (turn->inside++)
		turn->crowded = true;
	turn->nr++;
}

/* Was no other thread inside all the time? */
static bool turn_end(struct turn *turn)
{
	bool alone = !turn->crowded;

	if (!--turn->inside)
		turn->crowded = false;
	return alone;
}

/* For a thread that only reads and takes no turn */
struct look {
	const struct turn *turn;
	unsigned long nr;
};

static struct look look_at(const struct turn *turn)
{
	struct look look = { .turn = turn->inside ? NULL : turn, turn->nr };

	return look;
}

static bool still(const struct look *look)
{
	return look->turn && !look->turn->inside && look->turn->nr == look->nr;
}

/* Contexts, objects, ids */

static struct context *ctx_get(struct me *me)
{
	unsigned int i, first = draw(me, CONTEXTS);

	for (i = 0; i < CONTEXTS; i++) {
		struct context *ctx = &contexts[(first + i) % CONTEXTS];

		if (ctx->open && !ctx->closing) {
			ctx->users++;
			return ctx;
		}
	}
	return NULL;
}

static void ctx_put(struct context *ctx)
{
	ctx->users--;
}

static void use_id(struct context *ctx, __u32 id)
{
	if (id >= IDS)
		broken("ids: expected the lowest that is free, got %u", id);
	ctx->id_users[id]++;
}

static void unuse_id(struct context *ctx, __u32 id)
{
	ctx->id_users[id]--;
	ctx->last_use[id] = ++ctx->uses;
}

static struct space *pick_space(struct me *me, struct context *ctx)
{
	unsigned int i, first = draw(me, SPACES);

	for (i = 0; i < SPACES; i++) {
		struct space *sp = &ctx->spaces[(first + i) % SPACES];

		if (sp->alive)
			return sp;
	}
	return NULL;
}

/* No object that is certainly alive has this id. */
static void check_new_id(struct context *ctx, __u32 id)
{
	unsigned int i, k;
	bool taken = !id;

	for (i = 0; i < SPACES; i++) {
		const struct space *sp = &ctx->spaces[i];

		taken |= sp->alive && !sp->turn.inside && sp->id == id;
		for (k = 0; k < HWPTS; k++)
			taken |= sp->hwpts[k].alive &&
				 !sp->hwpts[k].turn.inside &&
				 sp->hwpts[k].id == id;
	}
	for (i = 0; i < DEVICES; i++) {
		const struct device *dev = &devices[i];

		if (dev->ctx != ctx || dev->turn.inside || dev->moving)
			continue;
		taken |= dev->devid == id;
		taken |= dev->state == ATTACHED && dev->hwpt == id;
	}
	if (taken && !ctx->closing)
		broken("a new object: expected an id of its own, got %u, which is alive",
		       id);
	exact++;
}

/*
 * A thread that was using the id when its former object went may apply its ioctl to
 * the new object: wait for these threads. Returns true if that may have happened
 * since uses had the given value.
 */
static bool wait_for_users_of_id(struct context *ctx, __u32 id,
				 unsigned long uses)
{
	bool stale;

	if (id >= IDS)
		broken("ids: expected the lowest that is free, got %u", id);
	stale = ctx->last_use[id] > uses;
	while (ctx->id_users[id]) {
		stale = true;
		unlock();
		sleep_ms(1);
		lock();
	}
	return stale;
}

/* What is known of the HWPTs of an IOAS */
struct hwpt_look {
	struct context *ctx;
	/* One that exists */
	struct look one;
	/* There is none, as of the context's hwpt_nr */
	bool none;
	unsigned long nr;
};

static void hwpt_call_begin(struct context *ctx)
{
	ctx->hwpt_calls++;
	ctx->hwpt_nr++;
}

static void hwpt_call_end(struct context *ctx)
{
	ctx->hwpt_calls--;
}

static struct hwpt_look look_at_hwpts(struct context *ctx, struct space *sp)
{
	struct hwpt_look look = { .ctx = ctx, .nr = ctx->hwpt_nr };
	unsigned int i;

	look.none = !ctx->hwpt_calls;
	for (i = 0; i < HWPTS; i++) {
		if (!sp->hwpts[i].alive)
			continue;
		look.none = false;
		if (!sp->hwpts[i].turn.inside)
			look.one = look_at(&sp->hwpts[i].turn);
	}
	for (i = 0; i < DEVICES; i++) {
		const struct device *dev = &devices[i];

		if (dev->ctx != ctx || dev->state == DETACHED)
			continue;
		if (dev->state == ANYHOW || dev->automatic == sp)
			look.none = false;
		if (dev->state == ATTACHED && dev->automatic == sp &&
		    !dev->turn.inside && !dev->moving)
			look.one = look_at(&dev->turn);
	}
	return look;
}

static bool still_one(const struct hwpt_look *look)
{
	return still(&look->one);
}

static bool still_none(const struct hwpt_look *look)
{
	return look->none && !look->ctx->hwpt_calls &&
	       look->ctx->hwpt_nr == look->nr;
}

/* Areas */

static void area_own(struct area *area)
{
	unsigned int i;

	if (!area->foreign || area->owned)
		return;
	area->owned = true;
	for (i = 0; i < area->pages; i++)
		__atomic_add_fetch(&shared->owned[area->pa[i] / PAGE], 1,
				   __ATOMIC_SEQ_CST);
}

static void area_disown(struct area *area)
{
	unsigned int i;

	if (!area->owned)
		return;
	area->owned = false;
	for (i = 0; i < area->pages; i++)
		__atomic_sub_fetch(&shared->owned[area->pa[i] / PAGE], 1,
				   __ATOMIC_SEQ_CST);
}

/* A pinned page is not freed, even if its process has ended. */
static void check_owned(const struct context *ctx)
{
	static const char path[] = "/proc/kpageflags";
	static int fd = -1;
	unsigned int i, k, n;
	__u64 flags;

	if (fd < 0)
		fd = expect_ok(open(path, O_RDONLY | O_CLOEXEC));
	for (i = 0; i < SPACES; i++) {
		for (k = 0; k < AREAS; k++) {
			const struct area *area = &ctx->spaces[i].areas[k];

			for (n = 0; area->owned && n < area->pages; n++) {
				expect_eq(pread(fd, &flags, sizeof(flags),
						area->pa[n] / PAGE * 8),
					  sizeof(flags));
				if (!(flags & KPF_ANON))
					broken("0x%llx: expected a page in use, got flags 0x%llx",
					       area->pa[n], flags);
				exact++;
			}
		}
	}
}

static void space_disown(struct space *sp)
{
	unsigned int i;

	for (i = 0; i < AREAS; i++)
		area_disown(&sp->areas[i]);
}

static void ctx_disown(struct context *ctx)
{
	unsigned int i;

	for (i = 0; i < SPACES; i++)
		space_disown(&ctx->spaces[i]);
}

static void area_begin(struct area *area)
{
	area_disown(area);
	turn_begin(&area->turn);
}

static bool area_end(struct area *area)
{
	bool alone = turn_end(&area->turn);

	if (!alone)
		area->state = UNKNOWN;
	return alone;
}

static void areas_begin(struct space *sp)
{
	unsigned int i;

	for (i = 0; i < AREAS; i++)
		area_begin(&sp->areas[i]);
}

static bool is_automatic(const struct space *sp, const struct area *area)
{
	return area >= sp->areas + FIXED;
}

static __u64 fixed_iova(const struct space *sp, const struct area *area)
{
	return FIXED_IOVA + (area - sp->areas) * PITCH;
}

/* An area whose first part was unmapped leaves room in front of it. */
static bool is_cut(const struct space *sp, const struct area *area)
{
	return area->state == MAPPED && !is_automatic(sp, area) &&
	       area->iova != fixed_iova(sp, area);
}

/* An area at a fixed IOVA, preferably one that another thread is busy with */
static struct area *any_fixed_area(struct me *me, struct space *sp)
{
	unsigned int i, first = draw(me, FIXED);

	for (i = 0; i < FIXED; i++) {
		struct area *area = &sp->areas[(first + i) % FIXED];

		if (area->turn.inside)
			return area;
	}
	return &sp->areas[first];
}

static struct area *pick_area(struct me *me, struct space *sp, int state,
			      unsigned int from, unsigned int nr)
{
	unsigned int i, first = draw(me, nr);

	for (i = 0; i < nr; i++) {
		struct area *area = &sp->areas[from + (first + i) % nr];

		if (!area->turn.inside && area->state == (unsigned int)state)
			return area;
	}
	return NULL;
}

/* Automatic IOVAs lie below the fixed ones only if a list demands it. */
static bool is_place_of_automatic(__u64 iova)
{
	static __u64 base;

	if (!base)
		base = iova_base();
	return (iova >= PAGE && iova < FIXED_IOVA) ||
	       (iova >= base && iova - base < FIXED_IOVA);
}

/* An impossible answer: that was never mapped there. */
static void check_loosely(__u64 iova, __u64 pa, __u64 length)
{
	__u32 first, page, i;

	loose++;
	if (pa / PAGE >= PFNS || !shared->number[pa / PAGE])
		broken("a translation: expected memory of this test, got 0x%llx",
		       pa);
	if (pa % PAGE != iova % PAGE)
		broken("a translation of 0x%llx: expected its offset in the page, got 0x%llx",
		       iova, pa);
	if (length > MAX_PAGES * PAGE)
		broken("a translation: expected at most %llu bytes, got %llu",
		       MAX_PAGES * PAGE, length);
	first = shared->number[pa / PAGE];
	/* The page of a child may belong to another one by now. */
	if (first >= FOREIGN)
		return;
	if (!is_place_of_automatic(iova) && first % CLASSES != iova / PAGE % CLASSES)
		broken("a translation of 0x%llx: expected what was mapped, got 0x%llx, page %u",
		       iova, pa, first);
	for (i = 1; i <= (pa % PAGE + length - 1) / PAGE; i++) {
		page = shared->number[pa / PAGE + i];
		if (page != first + i && page < FOREIGN)
			broken("%llu contiguous bytes at 0x%llx: expected page %u, got page %u",
			       length, pa, first + i, page);
	}
}

/* Nothing keeps the kernel from moving memory while it is not pinned. */
static void area_refresh(struct area *area)
{
	unsigned int i;

	for (i = 0; area->va && i < area->pages; i++) {
		__u64 pa = pagemap_pa(area->va + i * PAGE);

		if (!pa || pa == area->pa[i])
			continue;
		shared->number[pa / PAGE] = shared->number[area->pa[i] / PAGE];
		area->pa[i] = pa;
	}
}

/* Contiguous bytes at a place, within one or two areas */
static __u64 contiguous(const struct area *area, __u64 offset, __u64 limit,
			bool over_split)
{
	unsigned int i = offset / PAGE;
	__u64 length;

	while (i + 1 < area->pages && area->pa[i + 1] == area->pa[i] + PAGE &&
	       (over_split || i + 1 != area->split))
		i++;
	length = (i + 1) * PAGE - offset;
	return length < limit ? length : limit;
}

static bool is_exactly(const struct area *area, __u64 offset, __u64 limit,
		       bool over_split, __u64 pa, __u64 length)
{
	return pa == area->pa[offset / PAGE] + offset % PAGE &&
	       length == contiguous(area, offset, limit, over_split);
}

static void check_exactly(struct area *area, __u64 offset, __u64 limit,
			  bool over_split, __u64 pa, __u64 length)
{
	exact++;
	if (is_exactly(area, offset, limit, over_split, pa, length))
		return;
	area_refresh(area);
	if (is_exactly(area, offset, limit, over_split, pa, length))
		return;
	broken("a translation of 0x%llx, %llu: expected 0x%llx, %llu, got 0x%llx, %llu",
	       area->iova + offset, limit,
	       area->pa[offset / PAGE] + offset % PAGE,
	       contiguous(area, offset, limit, over_split), pa, length);
}

/* The errno if there is no translation, or 0 */
static void check_translated(const char *what, struct area *area,
			     const struct hwpt_look *hwpts, int err)
{
	if (area->state == FREE) {
		must(what, err, ENOENT);
	} else if (err && err != EOPNOTSUPP) {
		broken("%s of what is mapped: expected success, got %s", what,
		       strerrorname_np(err));
	} else if (still_one(hwpts)) {
		must(what, err, 0);
	} else if (still_none(hwpts)) {
		must(what, err, EOPNOTSUPP);
	}
	if (!err && area->bad)
		broken("%s of what is no memory: expected an error, got success",
		       what);
	/* Pinned, until a thread does something that may unpin it */
	if (!err && still_one(hwpts))
		area_own(area);
}

/* Ioctls: each begins and ends with the model locked. */

struct memory {
	const char *va;
	const struct pool *pool;
	unsigned int first, pages;
};

static struct memory pick_memory(struct me *me, bool file)
{
	struct memory mem = {};
	unsigned int tries;

	for (tries = 0; tries < 8; tries++) {
		mem.pool = &pools[draw(me, POOLS)];
		if (mem.pool->pages && (!file || mem.pool->fd >= 0))
			break;
	}
	if (tries == 8)
		mem.pool = &pools[SMALL_FILE];
	mem.pages = 1 + draw(me, one_in(me, 4) ? MAX_PAGES : 8);
	mem.first = draw(me, (mem.pool->pages - mem.pages) / CLASSES + 1) *
		    CLASSES;
	mem.va = mem.pool->va + mem.first * PAGE;
	return mem;
}

static int map_memory(int fd, __u32 ioas, __u32 flags, const struct memory *mem,
		      bool file, unsigned int first, unsigned int pages,
		      __u64 *iova)
{
	struct iommu_ioas_map_file map = {
		.size = sizeof(map), .flags = flags, .ioas_id = ioas,
		.start = (mem->first + first) * PAGE, .length = pages * PAGE,
		.iova = *iova,
	};
	int ret;

	if (!file)
		return ioas_map_flags(fd, ioas, flags, mem->va + first * PAGE,
				      pages * PAGE, iova);
	map.fd = mem->pool->fd;
	ret = ioctl(fd, IOMMU_IOAS_MAP_FILE, &map);
	*iova = map.iova;
	return ret;
}

/* Nothing else is at the IOVA that the kernel chose. */
static void check_place(const struct space *sp, const struct area *area)
{
	__u64 last = area->iova + area->pages * PAGE - 1;
	unsigned int i;

	exact++;
	for (i = 0; i < AREAS; i++) {
		const struct area *other = &sp->areas[i];

		if (other == area || other->turn.inside ||
		    other->state != MAPPED || other->iova > last ||
		    other->iova + other->pages * PAGE - 1 < area->iova)
			continue;
		broken("an automatic IOVA: expected a free one, got 0x%llx, where 0x%llx is",
		       area->iova, other->iova);
	}
	if (!is_place_of_automatic(area->iova) || area->iova % PAGE)
		broken("an automatic IOVA: expected one from 0x%llx on, got 0x%llx",
		       iova_base(), area->iova);
}

/* Lists for ALLOW_IOVAS */
static const struct iommu_iova_range allowed_ranges[][2] = {
	{}, { { 256 * MIB, 512 * MIB - 1 } },
	{ { 64 * KIB, 72 * KIB - 1 }, { 128 * KIB, 144 * KIB - 1 } },
};

static bool is_allowed(unsigned int allowed, __u64 iova, __u64 length)
{
	unsigned int i;

	for (i = 0; i < allowed; i++)
		if (iova >= allowed_ranges[allowed][i].start &&
		    iova + length - 1 <= allowed_ranges[allowed][i].last)
			return true;
	return !allowed;
}

static void check_allowed(const struct space *sp, const struct look *look,
			  unsigned int allowed, const struct area *area,
			  int err)
{
	check_place(sp, area);
	if (err || !still(look))
		return;
	exact++;
	if (!is_allowed(allowed, area->iova, area->pages * PAGE))
		broken("an automatic IOVA: expected one that is allowed, got 0x%llx",
		       area->iova);
}

/* The rest of an area whose first part was unmapped may follow it. */
static int state_of_new(int was)
{
	return was == UNKNOWN ? UNKNOWN : MAPPED;
}

static void map(struct me *me, struct context *ctx, struct space *sp)
{
	bool automatic = one_in(me, 3), bad = !automatic && one_in(me, 16);
	bool file = ctx->files_only || one_in(me, 3);
	bool writable = !one_in(me, 4), alone;
	__u32 flags = writable ? MAP_RW : MAP_READ, id = sp->id;
	struct memory mem = pick_memory(me, file);
	unsigned int allowed = sp->allowed, split = 0, i;
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	struct look ranges = look_at(&sp->allowed_turn);
	struct area *area;
	__u64 iova, next;
	int was, err;
	enum call call;

	bad &= !file;
	if (automatic)
		area = pick_area(me, sp, FREE, FIXED, AUTOMATIC);
	else if (one_in(me, 6))
		area = any_fixed_area(me, sp);
	else
		area = pick_area(me, sp, FREE, 0, FIXED);
	if (!area || is_cut(sp, area))
		return;
	if (bad)
		mem.va = no_memory;
	else if (!automatic && mem.pages > 1 && one_in(me, 4))
		split = 1 + draw(me, mem.pages - 1);
	if (!automatic)
		flags |= IOMMU_IOAS_MAP_FIXED_IOVA;
	iova = automatic ? 0 : fixed_iova(sp, area);
	next = iova + split * PAGE;
	call = file ? CALL_MAP_FILE :
	       automatic ? CALL_MAP_AUTOMATIC :
	       mem.pool == &pools[LARGE] || mem.pool == &pools[HUGE_FILE] ? CALL_MAP_HUGE :
	       hwpts.none ? CALL_MAP_LAZY : CALL_MAP_FIXED;

	was = area->state;
	area_begin(area);
	use_id(ctx, id);
	unlock();
	err = answer(call, map_memory(ctx->fd, id, flags, &mem, file, 0,
				      split ?: mem.pages, &iova));
	if (!err && split)
		err = answer(call, map_memory(ctx->fd, id, flags, &mem, file,
					      split, mem.pages - split, &next));
	lock();
	unuse_id(ctx, id);
	alone = area_end(area) && !ctx->closing;

	one_of("MAP", err, 0, EEXIST, ENOENT, EFAULT, ENOSPC, EBADF);
	if (alone && was == MAPPED) {
		must("MAP where something is", err, EEXIST);
		return;
	}
	if (alone && was == FREE && !automatic) {
		if (!bad || still_none(&hwpts))
			must("MAP where nothing is", err, 0);
		else if (still_one(&hwpts))
			must("MAP of no memory", err, EFAULT);
	}
	if (alone && automatic && err)
		one_of("MAP at an automatic IOVA", err,
		       still(&ranges) && allowed < 2 ? -1 : ENOSPC);
	if (err) {
		/* One that was split may have been copied by half. */
		if (alone && was == UNKNOWN && err == EEXIST)
			area->state = UNKNOWN;
		return;
	}

	area->iova = automatic ? iova : fixed_iova(sp, area);
	area->pages = mem.pages;
	area->split = split;
	area->writable = writable;
	area->file = file;
	area->foreign = false;
	area->bad = bad;
	area->va = bad ? NULL : mem.va;
	for (i = 0; i < mem.pages; i++)
		area->pa[i] = mem.pool->pa[mem.first + i];
	if (!alone)
		return;
	area->state = state_of_new(was);
	if (automatic)
		check_allowed(sp, &ranges, allowed, area, err);
}

/* Memory that may have gone, or that no process can be charged for */
static bool is_unpinnable(int err)
{
	return err == EFAULT || err == ENOMEM;
}

/* May an IOAS have such memory that would have to be pinned? */
struct pin_look {
	bool may_fail;
	unsigned long nr;
};

static struct pin_look look_at_pins(const struct space *sp)
{
	struct pin_look look = {};
	unsigned int i;

	for (i = 0; i < AREAS; i++) {
		const struct area *area = &sp->areas[i];

		look.nr += area->turn.nr;
		look.may_fail |= area->turn.inside || area->state == UNKNOWN;
		/* Pinned memory stays pinned. */
		look.may_fail |= area->state == MAPPED && !area->owned &&
				 (area->bad || area->foreign);
	}
	return look;
}

static void check_pinned(const char *what, const struct space *sp,
			 const struct pin_look *look, int err)
{
	struct pin_look now = look_at_pins(sp);

	exact++;
	if (is_unpinnable(err) && !look->may_fail && !now.may_fail &&
	    look->nr == now.nr)
		broken("%s of memory that is there: expected success, got %s",
		       what, strerrorname_np(err));
}

static void copy(struct me *me, struct context *ctx, struct space *src_sp)
{
	bool automatic = one_in(me, 4), write = one_in(me, 2), alone, known;
	struct space *dst_sp = pick_space(me, ctx);
	struct area *src, *dst, from;
	struct look src_look, ranges;
	unsigned int first, pages, allowed, i;
	__u32 src_id, dst_id;
	bool beyond;
	__u64 iova;
	int was, err;

	src = automatic ? pick_area(me, src_sp, MAPPED, FIXED, AUTOMATIC) :
	      one_in(me, 8) ? any_fixed_area(me, src_sp) :
			      pick_area(me, src_sp, MAPPED, 0, FIXED);
	dst = automatic ? pick_area(me, dst_sp, FREE, FIXED, AUTOMATIC) :
	      one_in(me, 8) ? any_fixed_area(me, dst_sp) :
			      pick_area(me, dst_sp, FREE, 0, FIXED);
	if (!src || !dst || src == dst || !src->pages || is_cut(dst_sp, dst))
		return;
	from = *src;
	/* From one place of its class to another */
	first = automatic ? 0 : (CLASSES - src->iova / PAGE % CLASSES) % CLASSES;
	if (first >= src->pages)
		return;
	first += draw(me, (src->pages - 1 - first) / CLASSES + 1) * CLASSES;
	pages = 1 + draw(me, src->pages - first);
	beyond = !automatic && one_in(me, 16);
	if (beyond)
		pages = src->pages - first + 1;
	iova = automatic ? 0 : fixed_iova(dst_sp, dst);
	src_look = look_at(&src->turn);
	ranges = look_at(&dst_sp->allowed_turn);
	allowed = dst_sp->allowed;
	src_id = src_sp->id;
	dst_id = dst_sp->id;
	was = dst->state;
	area_begin(dst);
	use_id(ctx, src_id);
	use_id(ctx, dst_id);
	unlock();
	err = answer(CALL_COPY,
		     ioas_copy(ctx->fd, dst_id, src_id,
			       (write ? MAP_RW : MAP_READ) |
			       (automatic ? 0 : IOMMU_IOAS_MAP_FIXED_IOVA),
			       pages * PAGE, &iova,
			       from.iova + first * PAGE));
	lock();
	unuse_id(ctx, src_id);
	unuse_id(ctx, dst_id);
	known = still(&src_look) && from.state != UNKNOWN;
	alone = area_end(dst) && !ctx->closing;

	one_of("COPY", err, 0, EEXIST, ENOENT, EFAULT, ENOMEM, ENOSPC, EPERM,
	       EBADF);
	if (alone && known) {
		if (from.state == FREE || beyond)
			must("COPY of nothing", err, ENOENT);
		else if (was == MAPPED)
			must("COPY to where something is", err, EEXIST);
		else if (was == FREE && !automatic && write && !from.writable)
			must("COPY of what may not be written to", err, EPERM);
		else if (was == FREE && !automatic && !from.foreign && !from.bad)
			must("COPY", err, 0);
	}
	if (err)
		return;
	dst->iova = iova;
	dst->pages = pages;
	dst->split = from.split > first && from.split < first + pages ?
		     from.split - first : 0;
	dst->writable = from.writable;
	dst->file = from.file;
	dst->foreign = from.foreign;
	dst->bad = from.bad;
	dst->va = from.va ? from.va + first * PAGE : NULL;
	for (i = 0; i < pages && first + i < MAX_PAGES; i++)
		dst->pa[i] = from.pa[first + i];
	if (!alone)
		return;
	dst->state = known ? state_of_new(was) : UNKNOWN;
	if (automatic && known)
		check_allowed(dst_sp, &ranges, allowed, dst, err);
}

static void unmap(struct me *me, struct context *ctx, struct space *sp)
{
	enum { WHOLE, PART, FIRST, STRADDLING } what = WHOLE;
	unsigned int pages;
	struct area *area;
	__u64 iova, done;
	__u32 id = sp->id;
	int was, err;
	bool alone;

	if (one_in(me, 6))
		area = any_fixed_area(me, sp);
	else if (one_in(me, 4))
		area = pick_area(me, sp, UNKNOWN, 0, FIXED);
	else
		area = pick_area(me, sp, MAPPED, 0, AREAS);
	/* A stale automatic IOVA may belong to another area. */
	if (!area || (is_automatic(sp, area) && area->state != MAPPED))
		return;
	was = area->state;
	iova = was == MAPPED ? area->iova : fixed_iova(sp, area);
	pages = was == MAPPED ? area->pages : MAX_PAGES;
	if (was == MAPPED && area->split && one_in(me, 2)) {
		what = one_in(me, 2) ? FIRST : STRADDLING;
		pages = area->split + (what == STRADDLING &&
				       area->pages - area->split > 1);
		if (pages == area->split)
			what = FIRST;
	} else if (was == MAPPED && pages > 1 && !area->split && one_in(me, 8)) {
		what = PART;
		pages--;
	}
	area_begin(area);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_UNMAP, ioas_unmap(ctx->fd, id, iova, pages * PAGE, &done));
	lock();
	unuse_id(ctx, id);
	alone = area_end(area) && !ctx->closing;

	one_of("UNMAP", err, 0, ENOENT, EBUSY, EBADF);
	if (!alone)
		return;
	if (was == FREE)
		must("UNMAP of nothing", err, ENOENT);
	else if (what == PART || what == STRADDLING)
		must("UNMAP of a part", err, ENOENT);
	else if (was == MAPPED)
		must("UNMAP", err, 0);
	else
		one_of("UNMAP", err, 0, ENOENT);
	if (was == MAPPED && !err && done != pages * PAGE)
		broken("UNMAP: expected %llu bytes, got %llu", pages * PAGE,
		       done);
	if (what == FIRST) {
		memmove(area->pa, area->pa + pages,
			(area->pages - pages) * sizeof(*area->pa));
		area->iova += pages * PAGE;
		area->va += area->va ? pages * PAGE : 0;
		area->pages -= pages;
		area->split = 0;
	} else if (what == WHOLE) {
		area->state = FREE;
	}
}

/* Everything: by one ioctl, or area by area as a program cleans up */
static void unmap_all(struct me *me, struct context *ctx, struct space *sp)
{
	bool known = true, alone = true;
	__u64 bytes = 0, done;
	__u32 id = sp->id;
	unsigned int i;
	int err;

	(void)me;
	for (i = 0; i < AREAS; i++) {
		known &= sp->areas[i].state != UNKNOWN;
		if (sp->areas[i].state == MAPPED)
			bytes += sp->areas[i].pages * PAGE;
	}
	areas_begin(sp);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_UNMAP_ALL, ioas_unmap(ctx->fd, id, 0, U64_MAX, &done));
	lock();
	unuse_id(ctx, id);
	for (i = 0; i < AREAS; i++) {
		bool one = area_end(&sp->areas[i]);

		if (one && !err)
			sp->areas[i].state = FREE;
		alone &= one;
	}
	one_of("UNMAP of all", err, 0, EBUSY, ENOENT, EBADF);
	if (!alone || ctx->closing)
		return;
	must("UNMAP of all", err, 0);
	if (known && done != bytes)
		broken("UNMAP of all: expected %llu bytes, got %llu", bytes,
		       done);
}

static struct area *area_to_translate(struct me *me, struct space *sp)
{
	struct area *area;

	if (one_in(me, 3))
		return any_fixed_area(me, sp);
	area = pick_area(me, sp, MAPPED, 0, AREAS);
	return area ?: any_fixed_area(me, sp);
}

/* Where an area is, or would be */
static __u64 place_to_translate(struct me *me, struct space *sp,
				struct area *area, __u64 *offset)
{
	unsigned int pages = area->state == MAPPED ? area->pages : MAX_PAGES;

	*offset = draw(me, pages * PAGE);
	if (one_in(me, 2))
		*offset -= *offset % PAGE;
	return (area->state == MAPPED || is_automatic(sp, area) ?
		area->iova : fixed_iova(sp, area)) + *offset;
}

static void translate(struct me *me, struct context *ctx, struct space *sp)
{
	struct area *area = area_to_translate(me, sp);
	static const __u64 limits[] = {
		1, 4095, PAGE, 3 * PAGE + 5, MIB, U64_MAX,
	};
	__u64 limit = limits[draw(me, ARRAY_SIZE(limits))], length = limit;
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	struct look look = look_at(&area->turn);
	__u64 iova, offset, pa;
	__u32 id = sp->id;
	int err;

	iova = place_to_translate(me, sp, area, &offset);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_GET_PA, get_pa(ctx->fd, id, iova, &length, &pa));
	lock();
	unuse_id(ctx, id);
	one_of("GET_PA", err, 0, ENOENT, EOPNOTSUPP, EBADF);
	if (!err && !length)
		broken("GET_PA: expected bytes, got none");
	if (still(&look) && area->state != UNKNOWN && !ctx->closing) {
		check_translated("GET_PA", area, &hwpts, err);
		if (!err)
			check_exactly(area, offset, limit, false, pa, length);
	} else if (!err) {
		check_loosely(iova, pa, length);
	}
}

#define MAX_RUNS	(2 * MAX_PAGES)

static void translate_runs(struct me *me, struct context *ctx, struct space *sp)
{
	struct noiommufd_run runs[MAX_RUNS];
	struct area *area = area_to_translate(me, sp);
	struct noiommufd_ioas_get_pa_runs get = {
		.size = sizeof(get), .ioas_id = sp->id,
		.num_runs = one_in(me, 4) ? 1 + draw(me, 4) : MAX_RUNS,
		.length = 1 + draw(me, MAX_PAGES * PAGE),
		.runs = (uintptr_t)runs,
	};
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	struct look look = look_at(&area->turn);
	__u64 offset, done = 0, length = get.length, limit = 0;
	__u32 id = sp->id, room = get.num_runs, i;
	bool sure;
	int err;

	get.iova = place_to_translate(me, sp, area, &offset);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_GET_PA_RUNS,
		     ioctl(ctx->fd, NOIOMMUFD_IOAS_GET_PA_RUNS, &get));
	lock();
	unuse_id(ctx, id);
	one_of("GET_PA_RUNS", err, 0, ENOENT, EOPNOTSUPP, EBADF);
	/* An area at an automatic IOVA may have neighbours. */
	sure = still(&look) && area->state != UNKNOWN && !ctx->closing &&
	       !is_automatic(sp, area);
	if (sure)
		check_translated("GET_PA_RUNS", area, &hwpts, err);
	if (err)
		return;
	if (!get.num_runs || get.num_runs > room || get.length > length)
		broken("GET_PA_RUNS: expected up to %u runs and %llu bytes, got %u and %llu",
		       room, length, get.num_runs, get.length);
	for (i = 0; i < get.num_runs; i++) {
		if (sure) {
			limit = area->pages * PAGE - offset;
			limit = limit < length ? limit : length;
			if (done >= limit)
				broken("GET_PA_RUNS: expected %llu bytes, got more",
				       limit);
			check_exactly(area, offset + done, limit - done, true,
				      runs[i].phys, runs[i].length);
		} else if (!is_automatic(sp, area)) {
			check_loosely(get.iova + done, runs[i].phys,
				      runs[i].length);
		}
		done += runs[i].length;
	}
	if (done != get.length)
		broken("GET_PA_RUNS: expected the runs to have %llu bytes, got %llu",
		       get.length, done);
	if (sure && get.num_runs < room && done != limit)
		broken("GET_PA_RUNS: expected %llu bytes, got %llu", limit,
		       done);
}

/* Undo what was meant for the object that had the id before. */
static void clean_up(struct context *ctx, __u32 id)
{
	struct iommu_option option = {
		.size = sizeof(option), .object_id = id,
		.option_id = IOMMU_OPTION_HUGE_PAGES, .val64 = 1,
	};
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = id,
	};
	bool fails;

	unlock();
	fails = ioas_unmap(ctx->fd, id, 0, U64_MAX, NULL) ||
		ioctl(ctx->fd, IOMMU_IOAS_ALLOW_IOVAS, &allow) ||
		ioctl(ctx->fd, IOMMU_OPTION, &option);
	lock();
	if (fails && !ctx->closing)
		broken("a new IOAS: expected to work with it, got %s",
		       strerrorname_np(errno));
}

static void allocate_ioas(struct me *me, struct context *ctx)
{
	struct space *sp = &ctx->spaces[draw(me, SPACES)];
	unsigned long uses = ctx->uses;
	unsigned int i;
	bool stale;
	__u32 id;
	int err;

	if (sp->alive || sp->turn.inside)
		return;
	turn_begin(&sp->turn);
	unlock();
	err = answer(CALL_IOAS_ALLOC, ioas_alloc(ctx->fd, &id));
	lock();
	if (!ctx->closing)
		must("IOAS_ALLOC", err, 0);
	if (!err) {
		check_new_id(ctx, id);
		stale = wait_for_users_of_id(ctx, id, uses);
		if (stale && !ctx->closing)
			clean_up(ctx, id);
		check_new_id(ctx, id);
	}
	turn_end(&sp->turn);
	if (err || ctx->closing)
		return;
	sp->id = id;
	sp->alive = true;
	sp->births++;
	sp->allowed = 0;
	/* A thread that began with the old one reports that at its end. */
	for (i = 0; i < AREAS; i++)
		if (!sp->areas[i].turn.inside)
			sp->areas[i].state = FREE;
}

/* Never two at a time: the second might destroy the next object with that id. */
static void destroy_ioas(struct me *me, struct context *ctx, struct space *sp)
{
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	__u32 id = sp->id;
	unsigned int i;
	int err;

	(void)me;
	if (sp->turn.inside)
		return;
	turn_begin(&sp->turn);
	areas_begin(sp);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_DESTROY_IOAS, object_destroy(ctx->fd, id));
	lock();
	unuse_id(ctx, id);
	one_of("DESTROY of an IOAS", err, 0, EBUSY, EBADF);
	for (i = 0; i < AREAS; i++)
		if (area_end(&sp->areas[i]) && !err)
			sp->areas[i].state = FREE;
	turn_end(&sp->turn);
	if (still_one(&hwpts) && !ctx->closing)
		must("DESTROY of an IOAS in use", err, EBUSY);
	else if (still_none(&hwpts) && !ctx->closing)
		must("DESTROY of an IOAS", err, 0);
	if (err)
		return;
	sp->alive = false;
	/* Its HWPTs have gone, otherwise it would be in use. */
	for (i = 0; i < HWPTS; i++)
		sp->hwpts[i].alive = false;
}

static struct device *pick_device(struct me *me)
{
	return &devices[draw(me, DEVICES)];
}

static void allocate_hwpt(struct me *me, struct context *ctx, struct space *sp)
{
	struct device *dev = pick_device(me);
	struct hwpt *hwpt = &sp->hwpts[draw(me, HWPTS)];
	struct look look = look_at(&sp->turn);
	__u32 devid = dev->devid, id = sp->id, new;
	struct pin_look pins = look_at_pins(sp);
	unsigned long moves = dev->moves;
	int err;

	if (dev->ctx != ctx || dev->moving || hwpt->alive || hwpt->turn.inside)
		return;
	turn_begin(&hwpt->turn);
	hwpt_call_begin(ctx);
	use_id(ctx, devid);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_HWPT_ALLOC, hwpt_alloc(ctx->fd, devid, id, &new));
	lock();
	one_of("HWPT_ALLOC", err, 0, ENOENT, EINVAL, EFAULT, ENOMEM, EOPNOTSUPP,
	       EBADF);
	if (still(&look) && is_unpinnable(err))
		check_pinned("HWPT_ALLOC", sp, &pins, err);
	else if (still(&look) && dev->moves == moves && !ctx->closing)
		must("HWPT_ALLOC", err, 0);
	if (!err) {
		check_new_id(ctx, new);
		if (still(&look)) {
			hwpt->alive = true;
			hwpt->id = new;
		} else {
			/* It belongs to another IOAS, which has the id by now */
			unlock();
			err = object_destroy(ctx->fd, new);
			lock();
			/* A device was attached, so there always is an HWPT from now on. */
			if (err)
				hwpt_call_begin(ctx);
		}
	}
	unuse_id(ctx, devid);
	unuse_id(ctx, id);
	hwpt_call_end(ctx);
	turn_end(&hwpt->turn);
	/* Otherwise it would be so for ever. */
	if (is_unpinnable(err) && sp->alive && !ctx->closing)
		unmap_all(me, ctx, sp);
}

static void destroy_hwpt(struct me *me, struct context *ctx, struct space *sp)
{
	struct hwpt *hwpt = &sp->hwpts[draw(me, HWPTS)];
	bool attached = false, maybe = false, bound = false;
	struct look user = {};
	unsigned int i;
	__u32 id = hwpt->id;
	int err;

	if (!hwpt->alive || hwpt->turn.inside)
		return;
	for (i = 0; i < DEVICES; i++) {
		struct device *dev = &devices[i];

		if (dev->ctx != ctx)
			continue;
		bound |= !dev->moving;
		maybe |= dev->turn.inside || dev->state == ANYHOW ||
			 dev->manual == hwpt;
		if (dev->state == ATTACHED && dev->manual == hwpt &&
		    !dev->turn.inside && !dev->moving) {
			attached = true;
			user = look_at(&dev->turn);
		}
	}
	maybe |= ctx->hwpt_calls;
	/* Then nothing keeps its memory pinned. */
	if (!bound)
		space_disown(sp);
	turn_begin(&hwpt->turn);
	hwpt_call_begin(ctx);
	use_id(ctx, id);
	i = ctx->hwpt_nr;
	unlock();
	err = answer(CALL_DESTROY_HWPT, object_destroy(ctx->fd, id));
	lock();
	unuse_id(ctx, id);
	hwpt_call_end(ctx);
	turn_end(&hwpt->turn);
	one_of("DESTROY of an HWPT", err, 0, EBUSY, EBADF);
	if (attached && still(&user) && !ctx->closing)
		must("DESTROY of an HWPT in use", err, EBUSY);
	else if (!maybe && (unsigned int)ctx->hwpt_nr == i && !ctx->closing)
		must("DESTROY of an HWPT", err, 0);
	if (!err)
		hwpt->alive = false;
	check_owned(ctx);
}

static void ask_iova_ranges(struct me *me, struct context *ctx,
			    struct space *sp)
{
	struct iommu_iova_range range;
	struct iommu_ioas_iova_ranges get = {
		.size = sizeof(get), .ioas_id = sp->id,
		.num_iovas = draw(me, 2), .allowed_iovas = (uintptr_t)&range,
	};
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	struct look look = look_at(&sp->turn);
	__u32 id = sp->id, room = get.num_iovas;
	int err;

	use_id(ctx, id);
	unlock();
	err = answer(CALL_IOVA_RANGES, ioctl(ctx->fd, IOMMU_IOAS_IOVA_RANGES, &get));
	lock();
	unuse_id(ctx, id);
	one_of("IOVA_RANGES", err, 0, EMSGSIZE, ENOENT, EBADF);
	if (!still(&look) || ctx->closing)
		return;
	must("IOVA_RANGES", err, room ? 0 : EMSGSIZE);
	if (get.num_iovas != 1 || (room && (range.start || ~range.last)))
		broken("IOVA_RANGES: expected one range, got another answer");
	if (still_one(&hwpts) && get.out_iova_alignment != PAGE)
		broken("IOVA_RANGES: expected an alignment of a page, got %llu",
		       get.out_iova_alignment);
}

static void allow_iovas(struct me *me, struct context *ctx, struct space *sp)
{
	unsigned int allowed = draw(me, 4) % 3;
	struct iommu_ioas_allow_iovas allow = {
		.size = sizeof(allow), .ioas_id = sp->id, .num_iovas = allowed,
		.allowed_iovas = (uintptr_t)allowed_ranges[allowed],
	};
	struct look look = look_at(&sp->turn);
	unsigned long births = sp->births;
	__u32 id = sp->id;
	int err;

	/* The second thread would not know which list is in force. */
	if (sp->allowed_turn.inside)
		return;
	turn_begin(&sp->allowed_turn);
	use_id(ctx, id);
	unlock();
	err = answer(CALL_ALLOW_IOVAS,
		     ioctl(ctx->fd, IOMMU_IOAS_ALLOW_IOVAS, &allow));
	lock();
	unuse_id(ctx, id);
	turn_end(&sp->allowed_turn);
	one_of("ALLOW_IOVAS", err, 0, ENOENT, EBADF);
	if (!err && sp->births == births)
		sp->allowed = allowed;
	if (still(&look) && !ctx->closing)
		must("ALLOW_IOVAS", err, 0);
}

static int change_process_of(int fd)
{
	struct iommu_ioas_change_process change = { .size = sizeof(change) };

	return answer(CALL_CHANGE_PROCESS, ioctl(fd, IOMMU_IOAS_CHANGE_PROCESS,
					    &change));
}

static void change_process(struct me *me, struct context *ctx,
			   struct space *sp)
{
	struct area *area = pick_area(me, sp, MAPPED, 0, AREAS);
	struct look look = {};
	int err;

	if (area && !area->file)
		look = look_at(&area->turn);
	unlock();
	err = change_process_of(ctx->fd);
	lock();
	one_of("CHANGE_PROCESS", err, 0, EBUSY, EBADF,
	       ctx->files_only ? 0 : EINVAL);
	if (still(&look) && !ctx->closing && !err)
		broken("CHANGE_PROCESS with memory of a process: expected EINVAL, got success");
}

static void set_option(struct me *me, struct context *ctx, struct space *sp)
{
	bool huge = one_in(me, 2);
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = huge ? IOMMU_OPTION_HUGE_PAGES :
				    IOMMU_OPTION_RLIMIT_MODE,
		.op = draw(me, 2), .object_id = huge ? sp->id : 0,
		.val64 = huge ? draw(me, 2) : ctx->by_process,
	};
	struct look look = look_at(&sp->turn);
	__u32 id = sp->id;
	int err;

	use_id(ctx, id);
	unlock();
	err = answer(CALL_OPTION, ioctl(ctx->fd, IOMMU_OPTION, &option));
	lock();
	unuse_id(ctx, id);
	one_of("OPTION", err, 0, EINVAL, EBUSY, ENOENT, EBADF);
	if (!still(&look) || ctx->closing)
		return;
	if (option.op == IOMMU_OPTION_OP_GET || (huge && option.val64))
		must("OPTION", err, 0);
	else if (!huge)
		must("OPTION of the limit", err, EBUSY);
	if (!err && !huge && option.val64 != ctx->by_process)
		broken("OPTION of the limit: expected what was set, got %llu",
		       option.val64);
}

static void fault_queue(struct me *me, struct context *ctx)
{
	struct iommu_fault_alloc alloc = { .size = sizeof(alloc) };
	int err;

	(void)me;
	unlock();
	err = answer(CALL_FAULT_ALLOC,
		     ioctl(ctx->fd, IOMMU_FAULT_QUEUE_ALLOC, &alloc));
	lock();
	one_of("FAULT_QUEUE_ALLOC", err, 0, EBADF);
	if (err)
		return;
	check_new_id(ctx, alloc.out_fault_id);
	use_id(ctx, alloc.out_fault_id);
	unlock();
	err = object_destroy(ctx->fd, alloc.out_fault_id) ? errno : 0;
	one_of("DESTROY of a fault queue in use", err, EBUSY, EBADF);
	close(alloc.out_fault_fd);
	/* A child may have its file. */
	err = object_destroy(ctx->fd, alloc.out_fault_id) ? errno : 0;
	one_of("DESTROY of a fault queue", err, 0, EBUSY, EBADF);
	lock();
	unuse_id(ctx, alloc.out_fault_id);
}

/* Devices */

/* A new file number, so that a thread that is late finds no file. */
static int to_fresh_fd(int fd)
{
	static int next = 100;
	int fresh = expect_ok(fcntl(fd, F_DUPFD_CLOEXEC,
				    __atomic_fetch_add(&next, 1,
						       __ATOMIC_SEQ_CST)));

	close(fd);
	return fresh;
}

/* The device is closed and opened again, in the same context or another one. */
static void move_device(struct me *me, struct device *dev)
{
	struct context *old = dev->ctx, *new;
	double end = now() + 60;
	__u32 devid;
	int fd, err;

	dev->moving = true;
	dev->moves++;
	turn_begin(&dev->turn);
	fd = dev->fd;
	if (old) {
		old->users++;
		hwpt_call_begin(old);
		ctx_disown(old);
	}
	unlock();
	if (fd >= 0)
		answer(CALL_CLOSE_DEVICE, close(fd));
	fd = to_fresh_fd(cdev_open(dev->bdf));
	lock();
	for (;;) {
		new = ctx_get(me);
		if (new) {
			unlock();
			err = answer(CALL_BIND, dev_bind(fd, new->fd, &devid));
			lock();
			one_of("BIND", err, 0, EINVAL, EBADF);
			if (!err && !new->closing)
				break;
			/* Other threads may be inside with the old file. */
			if (!err) {
				close(fd);
				fd = to_fresh_fd(cdev_open(dev->bdf));
			}
			ctx_put(new);
		}
		if (now() > end)
			broken("a device that was closed: expected to bind it, got EINVAL");
		unlock();
		sleep_ms(1);
		lock();
	}
	check_new_id(new, devid);
	if (old) {
		hwpt_call_end(old);
		ctx_put(old);
	}
	dev->fd = fd;
	dev->devid = devid;
	dev->ctx = new;
	dev->state = DETACHED;
	dev->manual = NULL;
	dev->automatic = NULL;
	dev->moving = false;
	turn_end(&dev->turn);
	ctx_put(new);
}

/* All devices that are attached to the IOAS itself share one HWPT. */
static void check_automatic_hwpt(const struct device *dev, __u32 id)
{
	unsigned int i;
	bool same;

	for (i = 0; i < DEVICES; i++) {
		const struct device *other = &devices[i];

		if (other == dev || other->ctx != dev->ctx || other->moving ||
		    other->turn.inside || other->state != ATTACHED)
			continue;
		exact++;
		same = other->automatic == dev->automatic;
		if (same ? other->hwpt != id : other->hwpt == id)
			broken("two devices: expected an automatic HWPT an IOAS, got %u and %u",
			       id, other->hwpt);
	}
}

static void attach_device(struct me *me, struct device *dev, struct space *sp)
{
	struct context *ctx = dev->ctx;
	struct hwpt *hwpt = &sp->hwpts[draw(me, HWPTS)];
	bool manual = hwpt->alive && one_in(me, 2);
	struct look look = look_at(manual ? &hwpt->turn : &sp->turn);
	enum call call = dev->state == ATTACHED ? CALL_REPLACE : CALL_ATTACH;
	__u32 id = manual ? hwpt->id : sp->id, pt = id;
	struct pin_look pins = look_at_pins(sp);
	int fd = dev->fd, err;
	bool alone;

	turn_begin(&dev->turn);
	hwpt_call_begin(ctx);
	use_id(ctx, id);
	unlock();
	err = answer(call, dev_attach(fd, &pt));
	lock();
	unuse_id(ctx, id);
	hwpt_call_end(ctx);
	alone = turn_end(&dev->turn) && !ctx->closing && dev->ctx == ctx;
	one_of("ATTACH", err, 0, ENOENT, EINVAL, EFAULT, ENOMEM, EBADF);
	if (!alone || !still(&look)) {
		dev->state = ANYHOW;
	} else if (manual || !is_unpinnable(err)) {
		must("ATTACH", err, 0);
	} else {
		check_pinned("ATTACH", sp, &pins, err);
		unmap_all(me, ctx, sp);
		return;
	}
	if (dev->state == ANYHOW && (!alone || !still(&look)))
		return;
	if (manual && pt != id)
		broken("ATTACH: expected the id of the HWPT, %u, got %u", id,
		       pt);
	dev->hwpt = pt;
	dev->manual = manual ? hwpt : NULL;
	dev->automatic = manual ? NULL : sp;
	dev->state = ANYHOW;
	if (!manual) {
		check_automatic_hwpt(dev, pt);
		if (!hwpt->alive || hwpt->turn.inside || hwpt->id != pt)
			exact++;
		else
			broken("ATTACH: expected a new HWPT, got %u, made by hand",
			       pt);
	}
	dev->state = ATTACHED;
}

static void detach_device(struct device *dev)
{
	struct context *ctx = dev->ctx;
	int fd = dev->fd, err;
	bool alone;

	turn_begin(&dev->turn);
	hwpt_call_begin(ctx);
	unlock();
	err = answer(CALL_DETACH, dev_detach(fd));
	lock();
	hwpt_call_end(ctx);
	alone = turn_end(&dev->turn) && !ctx->closing && dev->ctx == ctx;
	one_of("DETACH", err, 0, EBADF);
	if (!alone) {
		dev->state = ANYHOW;
		return;
	}
	must("DETACH", err, 0);
	dev->state = DETACHED;
	dev->manual = NULL;
	dev->automatic = NULL;
}

static void use_device(struct me *me)
{
	struct device *dev = pick_device(me);
	struct context *ctx = dev->ctx;
	struct space *sp;

	if (dev->moving)
		return;
	/* Preferably one that no other thread is busy with */
	if (dev->turn.inside && !one_in(me, 4))
		return;
	if (!ctx || one_in(me, 60)) {
		move_device(me, dev);
		return;
	}
	if (ctx->closing)
		return;
	ctx->users++;
	sp = pick_space(me, ctx);
	if (!sp || one_in(me, 6))
		detach_device(dev);
	else
		attach_device(me, dev, sp);
	check_owned(ctx);
	ctx_put(ctx);
}

static void ctx_open(struct me *me, struct context *ctx)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_RLIMIT_MODE,
		.val64 = 1,
	};
	unsigned int i;

	memset(ctx, 0, sizeof(*ctx));
	ctx->files_only = one_in(me, 3);
	ctx->by_process = one_in(me, 2);
	ctx->fd = to_fresh_fd(iommu_open());
	if (ctx->by_process)
		expect_ok(ioctl(ctx->fd, IOMMU_OPTION, &option));
	for (i = 0; i < SPACES; i++) {
		ctx->spaces[i].id = new_ioas(ctx->fd);
		ctx->spaces[i].alive = true;
	}
	ctx->open = true;
}

/* Both files, or one after the other, with other threads inside */
static void close_context(struct me *me, struct context *ctx)
{
	unsigned int i, when = draw(me, DEVICES + 1);
	struct device *mine[DEVICES] = {};

	ctx->closing = true;
	ctx_disown(ctx);
	for (i = 0; i < DEVICES; i++) {
		/* One that is being moved will have gone. */
		if (devices[i].ctx != ctx || devices[i].moving)
			continue;
		mine[i] = &devices[i];
		mine[i]->moving = true;
		mine[i]->moves++;
		turn_begin(&mine[i]->turn);
	}
	unlock();
	for (i = 0; i <= DEVICES; i++) {
		if (i == when)
			answer(CALL_CLOSE_IOMMUFD, close(ctx->fd));
		if (i < DEVICES && mine[i])
			answer(CALL_CLOSE_DEVICE, close(mine[i]->fd));
	}
	lock();
	/* This thread is one of them. */
	while (ctx->users > 1) {
		unlock();
		sleep_ms(1);
		lock();
	}
	for (i = 0; i < DEVICES; i++) {
		if (!mine[i])
			continue;
		mine[i]->fd = -1;
		mine[i]->ctx = NULL;
		mine[i]->state = DETACHED;
		mine[i]->manual = NULL;
		mine[i]->automatic = NULL;
		mine[i]->moving = false;
		turn_end(&mine[i]->turn);
	}
	ctx_open(me, ctx);
	ctx->users = 1;
}

/* Children: they have all files, map memory of their own, and end. */

/* Memory that nobody else gets before it is freed */
static char *fresh_memory(unsigned int pages)
{
	char *va = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	if (va == MAP_FAILED)
		broken("mmap: expected memory, got none");
	madvise(va, pages * PAGE, MADV_NOHUGEPAGE);
	memset(va, 1, pages * PAGE);
	for (i = 0; i < pages; i++) {
		__u64 pa = pagemap_pa(va + i * PAGE);

		if (!pa || pa / PAGE >= PFNS)
			broken("pagemap: expected memory below %llu GiB, got 0x%llx",
			       PFNS * PAGE / GIB, pa);
		if (__atomic_load_n(&shared->owned[pa / PAGE],
				    __ATOMIC_SEQ_CST))
			broken("memory given to a process: expected a free page, got 0x%llx",
			       pa);
	}
	return va;
}

enum child { EXITS, IS_KILLED, MOVES_CHARGE, IS_POOR, CHILDREN };

struct task {
	enum child what;
	struct context *ctx;
	struct journal *journal;
	__u32 ioas;
	__u64 iova;
	struct memory mem;
	unsigned int nr;
};

/* The pages of its memory */
static void child_look(const struct task *task, const char *va)
{
	struct journal *journal = task->journal;
	unsigned int i;

	for (i = 0; i < journal->pages; i++) {
		__u64 pa = pagemap_pa(va + i * PAGE);

		shared->number[pa / PAGE] = FOREIGN + task->nr * MAX_PAGES + i;
		journal->pa[i] = pa;
	}
}

/* The child may be killed at any time. */
static void child_is(const struct task *task, int phase)
{
	__atomic_store_n(&task->journal->phase, phase, __ATOMIC_SEQ_CST);
}

static void child_map(const struct task *task, const char *va)
{
	struct journal *journal = task->journal;
	bool file = task->ctx->files_only;
	__u64 iova = task->iova, length = 1, pa;
	int ret;

	child_is(task, MAPPING);
	if (file)
		ret = map_memory(task->ctx->fd, task->ioas, MAP_FIXED_RW,
				 &task->mem, true, 0, journal->pages, &iova);
	else
		ret = ioas_map_flags(task->ctx->fd, task->ioas, MAP_FIXED_RW,
				     va, journal->pages * PAGE, &iova);
	journal->err = answer(CALL_CHILD_MAP, ret);
	if (!ret && !file)
		child_look(task, va);
	child_is(task, ret ? NOTHING : DONE);
	iova += (journal->pages - 1) * PAGE;
	if (!ret && !get_pa(task->ctx->fd, task->ioas, iova, &length, &pa) &&
	    pa != journal->pa[journal->pages - 1]) {
		journal->wrong = pa;
		journal->right = journal->pa[journal->pages - 1];
	}
}

static void child_unmap(const struct task *task)
{
	struct journal *journal = task->journal;

	if (journal->phase != DONE)
		return;
	child_is(task, UNMAPPING);
	/* Another process may have done so, which the parent knows. */
	ioas_unmap(task->ctx->fd, task->ioas, task->iova,
		   journal->pages * PAGE, NULL);
	child_is(task, NOTHING);
}

static void child(struct task *task)
{
	struct journal *journal = task->journal;
	char *va = fresh_memory(journal->pages);
	struct rlimit none = {};
	unsigned int i;

	if (!task->ctx->files_only)
		child_look(task, va);
	for (i = 0; task->ctx->files_only && i < journal->pages; i++)
		journal->pa[i] = task->mem.pool->pa[task->mem.first + i];
	switch (task->what) {
	case IS_POOR:
		expect_ok(setrlimit(RLIMIT_MEMLOCK, &none));
		child_map(task, va);
		child_unmap(task);
		break;
	case IS_KILLED:
		do {
			child_map(task, va);
			child_unmap(task);
		} while (journal->err != EBADF);
		pause();
		break;
	case MOVES_CHARGE:
		change_process_of(task->ctx->fd);
		child_map(task, va);
		break;
	default:
		child_map(task, va);
	}
	_exit(0);
}

static void wait_for_child(struct me *me, pid_t pid, bool kill_it)
{
	int status;

	if (kill_it) {
		sleep_ms(draw(me, 20));
		kill(pid, SIGKILL);
	}
	if (waitpid(pid, &status, 0) != pid)
		broken("a child: expected to wait for it, got an error");
	answer(kill_it ? CALL_CHILD_KILL : CALL_CHILD_EXIT, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status)) {
		/* The verdict has been written already. */
		be_the_first();
		_exit(WEXITSTATUS(status));
	}
	if (!kill_it && !WIFEXITED(status))
		broken("a child: expected to end by itself, got killed");
}

static void use_child(struct me *me, struct context *ctx, struct space *sp)
{
	struct area *area = pick_area(me, sp, FREE, 0, FIXED);
	struct journal *journal = &shared->journal[me->nr];
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	struct task task = {
		.what = draw(me, CHILDREN), .ctx = ctx, .journal = journal,
		.ioas = sp->id, .mem = pick_memory(me, true), .nr = me->nr,
	};
	unsigned int i;
	bool alone;
	pid_t pid;

	if (!area)
		return;
	memset(journal, 0, sizeof(*journal));
	journal->pages = ctx->files_only ? task.mem.pages :
						   1 + draw(me, 16);
	task.iova = fixed_iova(sp, area);
	area_begin(area);
	use_id(ctx, task.ioas);
	unlock();
	pid = fork();
	if (pid < 0)
		broken("fork: expected a child, got %s", strerrorname_np(errno));
	if (!pid)
		child(&task);
	wait_for_child(me, pid, task.what == IS_KILLED);
	lock();
	unuse_id(ctx, task.ioas);
	alone = area_end(area) && !ctx->closing;
	if (!alone)
		return;
	if (journal->wrong)
		broken("a child's translation: expected 0x%llx, got 0x%llx",
		       journal->right, journal->wrong);
	if (task.what == IS_POOR && still_one(&hwpts))
		must("MAP over the limit", journal->err, ENOMEM);
	else if (task.what == EXITS || task.what == MOVES_CHARGE)
		must("a child's MAP", journal->err, 0);
	if (journal->phase != DONE) {
		area->state = journal->phase == NOTHING ? FREE : UNKNOWN;
		return;
	}
	area->state = MAPPED;
	area->iova = task.iova;
	area->pages = journal->pages;
	area->split = 0;
	area->writable = true;
	area->file = ctx->files_only;
	area->foreign = !area->file;
	area->bad = false;
	area->va = area->file ? task.mem.va : NULL;
	for (i = 0; i < area->pages; i++)
		area->pa[i] = journal->pa[i];
	if (still_one(&hwpts))
		area_own(area);
}

/* Allocate memory and free it. */
static void take_memory(struct me *me)
{
	unsigned int pages = 1 + draw(me, 32);

	munmap(fresh_memory(pages), pages * PAGE);
}

/* The threads */

static void act_on_space(struct me *me, struct context *ctx, struct space *sp)
{
	static const struct {
		unsigned int weight;
		void (*call)(struct me *me, struct context *ctx,
			     struct space *sp);
	} calls[] = {
		{ 100, map }, { 50, copy }, { 80, unmap }, { 2, unmap_all },
		{ 160, translate }, { 80, translate_runs },
		{ 2, destroy_ioas }, { 25, allocate_hwpt }, { 8, destroy_hwpt },
		{ 4, ask_iova_ranges }, { 4, allow_iovas },
		{ 6, change_process }, { 4, set_option }, { 4, use_child },
	};
	unsigned int i, total = 0, drawn;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		total += calls[i].weight;
	drawn = draw(me, total);
	for (i = 0; drawn >= calls[i].weight; i++)
		drawn -= calls[i].weight;
	calls[i].call(me, ctx, sp);
}

static void act(struct me *me)
{
	struct context *ctx;
	struct space *sp;

	if (one_in(me, 30)) {
		take_memory(me);
		return;
	}
	lock();
	if (one_in(me, 12)) {
		use_device(me);
		unlock();
		return;
	}
	ctx = ctx_get(me);
	if (ctx) {
		sp = pick_space(me, ctx);
		if (one_in(me, 1500))
			close_context(me, ctx);
		else if (!sp || one_in(me, 50))
			allocate_ioas(me, ctx);
		else if (one_in(me, 200))
			fault_queue(me, ctx);
		else
			act_on_space(me, ctx, sp);
		ctx_put(ctx);
	}
	unlock();
}

static void *thread(void *arg)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		act(arg);
	return NULL;
}

/* No thread is inside any more, so the model has to hold. */

static void audit_area(struct context *ctx, struct space *sp, struct area *area)
{
	struct hwpt_look hwpts = look_at_hwpts(ctx, sp);
	__u64 iova = area->state == MAPPED ? area->iova : fixed_iova(sp, area);
	__u64 offset, pa, length;
	int err;

	if (area->state == UNKNOWN ||
	    (area->state == FREE && is_automatic(sp, area)))
		return;
	offset = 0;
	do {
		length = U64_MAX;
		err = answer(CALL_GET_PA,
			     get_pa(ctx->fd, sp->id, iova + offset, &length,
				    &pa));
		check_translated("GET_PA in the end", area, &hwpts, err);
		if (err)
			return;
		check_exactly(area, offset, U64_MAX, false, pa, length);
		offset += length;
	} while (offset < area->pages * PAGE);
}

/* Wait up to two seconds, because RCU may need that. */
static void check_tables(void)
{
	const char *path = "/sys/kernel/debug/noiommufd/table_bytes";
	double end = now() + 2;

	if (access(path, R_OK))
		return;
	while (read_number(path) && now() < end)
		sleep_ms(20);
	if (read_number(path))
		fail("page tables: expected 0 bytes, got %lld",
		     read_number(path));
}

static void check_no_charge(void)
{
	expect_eq(vm_pin(), 0);
	expect_eq(read_field("/proc/self/status", "VmLck"), 0);
}

/*
 * The charge of a user cannot be read. But the rest of the limit can be found out,
 * and has to be all of it.
 */
static void check_whole_limit(void)
{
	const unsigned int pages = 16;
	struct setup s;
	char *va = mem((pages + 1) * PAGE);

	set_memlock(pages * PAGE);
	setup_attached(&s);
	expect_ok(ioas_map(s.iommu, s.ioas, va, pages * PAGE, 0));
	expect_errno(ioas_map(s.iommu, s.ioas, va, PAGE, GIB), ENOMEM);
	close(s.dev);
	close(s.iommu);
	munmap(va, (pages + 1) * PAGE);
	set_memlock(MEMLOCK);
}

static void audit(struct me *me, long long before)
{
	unsigned int i, k, n, first = draw(me, 2);

	for (i = 0; i < CONTEXTS; i++) {
		struct context *ctx = &contexts[i];

		expect_eq(ctx->users, 0);
		check_owned(ctx);
		for (k = 0; k < SPACES; k++) {
			struct space *sp = &ctx->spaces[k];

			if (!sp->alive)
				continue;
			for (n = 0; n < AREAS; n++)
				audit_area(ctx, sp, &sp->areas[n]);
			lock();
			unmap_all(me, ctx, sp);
			unlock();
		}
	}
	/* Before anything is closed */
	expect_pins(before);
	check_no_charge();

	for (n = 0; n < 2; n++) {
		for (i = 0; n == first && i < DEVICES; i++)
			if (devices[i].fd >= 0)
				close(devices[i].fd);
		for (i = 0; n != first && i < CONTEXTS; i++)
			close(contexts[i].fd);
	}
	expect_pins(before);
	check_no_charge();
	check_tables();
	check_whole_limit();
}

static void round_of_threads(struct me *me)
{
	pthread_t threads[THREADS];
	struct me each[THREADS];
	unsigned int i;

	memset(devices, 0, sizeof(devices));
	devices[0].bdf = edu();
	devices[1].bdf = edu_behind_bridge();
	for (i = 0; i < DEVICES; i++) {
		devices[i].fd = -1;
		driver_bind(devices[i].bdf);
	}
	for (i = 0; i < CONTEXTS; i++)
		ctx_open(me, &contexts[i]);
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	draw(me, 1);
	for (i = 0; i < THREADS; i++) {
		each[i].nr = i;
		each[i].random = me->random + (i + 1) * 0x9e3779b97f4a7c15ULL;
		expect_eq(pthread_create(&threads[i], NULL, thread, &each[i]),
			  0);
	}
	sleep_ms(ROUND * 1000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < THREADS; i++)
		expect_eq(pthread_join(threads[i], NULL), 0);
}

static void make_pool(unsigned int nr, char *va, int fd, unsigned int pages)
{
	static __u32 number = CLASSES;
	struct pool *pool = &pools[nr];
	unsigned int i;

	pool->va = va;
	pool->fd = fd;
	pool->pages = pages;
	pool->number = number;
	pool->pa = mem_flags(pages * sizeof(*pool->pa), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS);
	memset(va, 1, pages * PAGE);
	for (i = 0; i < pages; i++) {
		pool->pa[i] = pagemap_pa(va + i * PAGE);
		if (!pool->pa[i] || pool->pa[i] / PAGE >= PFNS)
			fail("pagemap: expected memory below %llu GiB, got 0x%llx",
			     PFNS * PAGE / GIB, pool->pa[i]);
		shared->number[pool->pa[i] / PAGE] = number + i;
	}
	/* No page number continues that of another pool. */
	number += pages + CLASSES;
}

static void make_file_pool(unsigned int nr, unsigned int flags,
			   unsigned int pages)
{
	int fd = memfd_create("stress", flags);
	char *va;

	if (fd < 0 || ftruncate(fd, pages * PAGE))
		return;
	va = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (va != MAP_FAILED)
		make_pool(nr, va, fd, pages);
}

static void make_pools(void)
{
	const unsigned int huge = HUGE_PAGE / PAGE;
	char *va;

	/* If there are any; 6.12 needs more than are mapped. */
	write_file("/proc/sys/vm/compact_memory", "1");
	write_file("/proc/sys/vm/nr_hugepages", "6");
	make_file_pool(SMALL_FILE, 0, 1024);
	if (read_number("/proc/sys/vm/nr_hugepages") == 6)
		make_file_pool(HUGE_FILE, MFD_HUGETLB, 2 * huge);

	va = mem(1024 * PAGE);
	/* Otherwise a page would move when it is written to after a fork. */
	madvise(va, 1024 * PAGE, MADV_DONTFORK);
	make_pool(SMALL, va, -1, 1024);

	va = mem_flags(3 * HUGE_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS);
	va = (char *)(((uintptr_t)va + HUGE_PAGE - 1) & -HUGE_PAGE);
	madvise(va, 2 * HUGE_PAGE, MADV_HUGEPAGE);
	madvise(va, 2 * HUGE_PAGE, MADV_DONTFORK);
	make_pool(LARGE, va, -1, 2 * huge);
	madvise(va, 2 * HUGE_PAGE, MADV_NOHUGEPAGE);

	no_memory = mem_flags(MAX_PAGES * PAGE, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS);
}

/* A kind of ioctl that never succeeded, or NULL */
static const char *never_succeeded(void)
{
	unsigned int call;

	for (call = 0; call < CALLS; call++)
		if (!shared->calls[call][0])
			return call_name[call];
	return NULL;
}

static void summary(void)
{
	unsigned int call, err;
	unsigned long total = 0;

	for (call = 0; call < CALLS; call++) {
		printf("# %s: %lu succeeded", call_name[call],
		       shared->calls[call][0]);
		for (err = 0; err < ERRNOS; err++) {
			total += shared->calls[call][err];
			if (err && shared->calls[call][err])
				printf(", %lu %s", shared->calls[call][err],
				       strerrorname_np(err));
		}
		printf("\n");
	}
	printf("# %lu calls; %lu answers were the only right one, %lu one that could be\n",
	       total, exact, loose);
	fflush(stdout);
}

static unsigned long from_environment(const char *name, unsigned long value)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : value;
}

TEST_LIMIT(eight_threads, 600)
{
	struct rlimit files = { .rlim_cur = 1 << 18, .rlim_max = 1 << 18 };
	bool debug = !access("/proc/lockdep", F_OK);
	long long before;
	struct me me;
	double end;

	me.nr = THREADS;
	me.random = from_environment("STRESS_SEED", time(NULL));
	end = from_environment("STRESS_SECONDS", debug ? 120 : 10);
	printf("# stress: %.0f seconds, STRESS_SEED=%llu\n", end, me.random);
	fflush(stdout);
	me.random = (me.random + 1) * 0x9e3779b97f4a7c15ULL;

	skip_on_mainline("it has no GET_PA_RUNS, and DETACH unpins");
	expect_ok(setrlimit(RLIMIT_NOFILE, &files));
	shared = mem_flags(sizeof(*shared), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS);
	make_pools();
	set_memlock(MEMLOCK);
	drop_cap(CAP_IPC_LOCK);
	before = pins();
	end += now();
	/* A slow machine gets one more minute to do everything once. */
	do {
		round_of_threads(&me);
		audit(&me, before);
	} while (now() < end || (never_succeeded() && now() < end + 60));
	summary();
	if (never_succeeded())
		fail("%s: expected it to succeed now and then, got never",
		     never_succeeded());
	expect(exact > loose);
}
