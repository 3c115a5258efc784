// SPDX-License-Identifier: GPL-2.0-only
/*
 * Short random sequences of calls, dealt to threads, against a small model of an
 * iommufd. All answers have to be those of the model for some order of the calls
 * in which none comes before one that had ended when it began. If there is no such
 * order, the sequence is repeated with fewer and fewer calls, and the fewest that
 * still fail are printed.
 *
 *	MODEL_SECONDS=n  how long (default: 8)
 *	MODEL_SEED=n     seed of the random numbers (default: the time; printed)
 *
 * Both may be on the kernel's command line. stress.c has more threads, objects and
 * processes, but has to know the right answer at once, so it may accept several.
 *
 * A call takes effect in steps, and steps of other calls may come between:
 *	MAP		reserve the IOVA; publish
 *	COPY		look at the source; reserve; publish area by area
 *	UNMAP		decide; remove area by area
 *	ATTACH		keep the IOAS; translate; end what it replaces, as DETACH
 *	DETACH		stop to translate; let go of the IOAS
 * While areas are published or removed the address space is locked for all but
 * those who translate. Everything else is one step, GET_PA_RUNS among it.
 */
#include <pthread.h>
#include <stdarg.h>
#include <time.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define THREADS		3
#define CALLS		4	/* of a thread */
#define BEFORE		6	/* calls before the threads begin */
#define SLOTS		10	/* pages at fixed IOVAs */
#define AUTOMATIC	2	/* places for IOVAs that the kernel chooses */
#define SEGMENT		8	/* pages of one kind of memory */
#define KINDS		3
#define POOL		(SEGMENT * KINDS)
#define RUNS		3
#define IOASES		2
#define SPACES		6	/* the same, and what was destroyed */
#define AREAS		20
#define MAX_CALLS	(BEFORE + THREADS * CALLS)
#define AUDIT		(IOASES * (2 + SLOTS + AUTOMATIC))
#define LANES		(THREADS + 1)
#define SEEN		0x10000
#define FIXED_IOVA	GIB
/* Seconds to look for fewer calls, and tries of each candidate */
#define SHRINK_SECONDS	60
#define TRIES		1500

enum kind {
	MAP, UNMAP, UNMAP_ALL, COPY, GET_PA, GET_RUNS, ATTACH, DETACH, CLOSE,
	ALLOC, DESTROY, NR_KINDS,
};

static const char * const kind_name[] = {
	"MAP", "UNMAP", "UNMAP all", "COPY", "GET_PA", "GET_PA_RUNS", "ATTACH",
	"DETACH", "close the device, open and bind it", "IOAS_ALLOC", "DESTROY",
};

static const unsigned char weight[NR_KINDS] = {
	27, 12, 2, 15, 16, 12, 8, 3, 1, 1, 2,
};

/* What to do. Places from SLOTS on are automatic IOVAs. */
struct call {
	enum kind kind;
	/* 0: before the threads begin */
	unsigned int lane;
	unsigned int space, place, pages, to_space, to, first, limit, offset;
	bool write;
	unsigned int delay;
};

struct program {
	unsigned int nr;
	struct call call[MAX_CALLS];
};

/* What was done, and what it answered */
struct record {
	struct call call;
	unsigned int start, end;
	__u32 id, to_id;
	__u64 iova, to_iova, length;
	int err;
	__u64 out, out_length;
	unsigned int nr;
	struct noiommufd_run run[RUNS];
};

struct history {
	unsigned int nr[LANES];
	struct record record[LANES][MAX_CALLS + AUDIT];
};

/* The model */

struct area {
	__u64 iova;
	__u8 pages, first;
	bool write;
	/* 0: it is published; else the lane that has reserved it */
	__u8 owner;
	/* Lane + 1 that is about to remove it */
	__u8 doomed;
};

struct space {
	__u32 id;
	bool alive, translates;
	__u8 users, nr;
	/* Lane + 1 that has locked it */
	__u8 locked;
	struct area area[AREAS];
};

/* How far the call of a lane has come */
struct progress {
	__u8 step, space, old, nr;
	struct area area[SLOTS];
};

struct state {
	__u8 nr;
	/* Space + 1 */
	__u8 attached;
	struct space space[SPACES];
	struct progress progress[LANES];
	unsigned int done[LANES];
};

enum outcome { REFUSED, STEP, DONE };

static struct {
	char *va[POOL];
	__u64 pa[POOL];
	int fd;
} pool;

static int iommu, dev;
static const char *bdf;
static __u32 ids[IOASES], all_ids[SPACES];
static unsigned int nr_ids;
static __u64 automatic[IOASES][AUTOMATIC];
static pthread_rwlock_t device_lock = PTHREAD_RWLOCK_INITIALIZER;
static unsigned int clock_now;
static struct history history;
static unsigned long done_of[NR_KINDS][2];

/* Random numbers */

static __u64 random_state;

static void seed_random(__u64 seed)
{
	random_state = (seed + 1) * 0x9e3779b97f4a7c15ULL;
}

static unsigned int draw(unsigned int below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 20) % below;
}

static bool one_in(unsigned int n)
{
	return !draw(n);
}

/* The kernel */

static __u64 place_iova(unsigned int space, unsigned int place)
{
	return place < SLOTS ? FIXED_IOVA + place * PAGE :
	       __atomic_load_n(&automatic[space][place - SLOTS],
			       __ATOMIC_SEQ_CST);
}

static void call_map(struct record *r)
{
	const struct call *c = &r->call;
	__u32 flags = (c->write ? MAP_RW : MAP_READ) |
		      (c->place < SLOTS ? IOMMU_IOAS_MAP_FIXED_IOVA : 0);
	struct iommu_ioas_map_file file = {
		.size = sizeof(file), .flags = flags, .ioas_id = r->id,
		.fd = pool.fd, .start = c->first % SEGMENT * PAGE,
		.length = c->pages * PAGE, .iova = r->iova,
	};
	int ret;

	if (c->first / SEGMENT == KINDS - 1) {
		ret = ioctl(iommu, IOMMU_IOAS_MAP_FILE, &file);
		r->out = file.iova;
	} else {
		r->out = r->iova;
		ret = ioas_map_flags(iommu, r->id, flags, pool.va[c->first],
				     c->pages * PAGE, &r->out);
	}
	r->err = ret ? errno : 0;
	if (!ret && c->place >= SLOTS)
		__atomic_store_n(&automatic[c->space][c->place - SLOTS], r->out,
				 __ATOMIC_SEQ_CST);
}

static void call_copy(struct record *r)
{
	const struct call *c = &r->call;
	__u32 flags = (c->write ? MAP_RW : MAP_READ) |
		      (c->to < SLOTS ? IOMMU_IOAS_MAP_FIXED_IOVA : 0);

	r->out = r->to_iova;
	r->err = ioas_copy(iommu, r->to_id, r->id, flags, c->pages * PAGE,
			   &r->out, r->iova) ? errno : 0;
	if (!r->err && c->to >= SLOTS)
		__atomic_store_n(&automatic[c->to_space][c->to - SLOTS], r->out,
				 __ATOMIC_SEQ_CST);
}

static void call_runs(struct record *r)
{
	struct noiommufd_ioas_get_pa_runs cmd = {
		.size = sizeof(cmd), .ioas_id = r->id,
		.num_runs = r->call.limit % RUNS + 1, .iova = r->iova,
		.length = r->length, .runs = (unsigned long)r->run,
	};

	r->err = ioctl(iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &cmd) ? errno : 0;
	r->nr = cmd.num_runs;
	r->out_length = cmd.length;
}

static void open_device(void)
{
	__u32 devid;

	dev = cdev_open(bdf);
	expect_ok(dev_bind(dev, iommu, &devid));
}

static void call_device(struct record *r)
{
	__u32 pt_id = r->id;

	if (r->call.kind == CLOSE) {
		pthread_rwlock_wrlock(&device_lock);
		close(dev);
		open_device();
	} else {
		pthread_rwlock_rdlock(&device_lock);
		r->err = (r->call.kind == ATTACH ? dev_attach(dev, &pt_id) :
						   dev_detach(dev)) ? errno : 0;
	}
	pthread_rwlock_unlock(&device_lock);
}

static void call_alloc(struct record *r)
{
	unsigned int nr = __atomic_fetch_add(&nr_ids, 1, __ATOMIC_SEQ_CST);

	r->err = ioas_alloc(iommu, &r->id) ? errno : 0;
	all_ids[nr] = r->id;
	__atomic_store_n(&ids[r->call.space], r->id, __ATOMIC_SEQ_CST);
}

/* Read what it refers to before the call begins. */
static void begin_call(struct record *r, const struct call *c)
{
	static const __u64 limits[] = { 1, PAGE, 3 * PAGE + 5, U64_MAX };

	memset(r, 0, sizeof(*r));
	r->call = *c;
	r->id = __atomic_load_n(&ids[c->space], __ATOMIC_SEQ_CST);
	r->to_id = __atomic_load_n(&ids[c->to_space], __ATOMIC_SEQ_CST);
	r->iova = place_iova(c->space, c->place) + c->offset;
	r->to_iova = place_iova(c->to_space, c->to);
	r->length = c->kind == GET_PA ? limits[c->limit % 4] : c->pages * PAGE;
	if (c->kind == GET_RUNS && c->offset)
		r->length -= 5;
	if (c->kind == UNMAP_ALL) {
		r->iova = 0;
		r->length = U64_MAX;
	}
}

static void do_call(struct record *r, const struct call *c)
{
	unsigned int i;

	begin_call(r, c);
	for (i = 0; i < c->delay; i++)
		__asm__ __volatile__("");
	r->start = __atomic_fetch_add(&clock_now, 1, __ATOMIC_SEQ_CST);
	switch (c->kind) {
	case MAP:
		call_map(r);
		break;
	case COPY:
		call_copy(r);
		break;
	case GET_PA:
		r->out_length = r->length;
		r->err = get_pa(iommu, r->id, r->iova, &r->out_length,
				&r->out) ? errno : 0;
		break;
	case GET_RUNS:
		call_runs(r);
		break;
	case UNMAP:
	case UNMAP_ALL:
		r->err = ioas_unmap(iommu, r->id, r->iova, r->length,
				    &r->out_length) ? errno : 0;
		break;
	case ALLOC:
		call_alloc(r);
		break;
	case DESTROY:
		r->err = object_destroy(iommu, r->id) ? errno : 0;
		break;
	default:
		call_device(r);
	}
	r->end = __atomic_fetch_add(&clock_now, 1, __ATOMIC_SEQ_CST);
}

/* The steps of the model */

/* What the model would have answered, where it came furthest */
static struct {
	unsigned int depth, lane, index;
	char text[160];
} stuck;
static unsigned int depth;

[[gnu::format(printf, 4, 5)]]
static enum outcome refuse(const struct state *s, unsigned int lane,
			   const struct record *r, const char *fmt, ...)
{
	va_list args;

	(void)r;
	if (depth < stuck.depth)
		return REFUSED;
	stuck.depth = depth;
	stuck.lane = lane;
	stuck.index = s->done[lane];
	va_start(args, fmt);
	vsnprintf(stuck.text, sizeof(stuck.text), fmt, args);
	va_end(args);
	return REFUSED;
}

static const char *name_of(int err)
{
	const char *name = err ? strerrorname_np(err) : "success";

	return name ? name : "an unknown errno";
}

static enum outcome answers(const struct state *s, unsigned int lane,
			    const struct record *r, int err)
{
	return r->err == err ? DONE :
	       refuse(s, lane, r, "%s", name_of(err));
}

static struct space *find_space(struct state *s, __u32 id)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (s->space[i].alive && s->space[i].id == id)
			return &s->space[i];
	return NULL;
}

static __u64 area_last(const struct area *a)
{
	return a->iova + a->pages * PAGE - 1;
}

/* The first area that touches the range, from the index on */
static unsigned int find_area(const struct space *sp, unsigned int i,
			      __u64 iova, __u64 last)
{
	while (i < sp->nr && area_last(&sp->area[i]) < iova)
		i++;
	return i < sp->nr && sp->area[i].iova <= last ? i : AREAS;
}

static void add_area(struct space *sp, const struct area *area)
{
	unsigned int i = sp->nr++;

	expect(sp->nr <= AREAS);
	for (; i && sp->area[i - 1].iova > area->iova; i--)
		sp->area[i] = sp->area[i - 1];
	sp->area[i] = *area;
}

static void remove_area(struct space *sp, unsigned int i)
{
	sp->nr--;
	memmove(&sp->area[i], &sp->area[i + 1],
		(sp->nr - i) * sizeof(sp->area[i]));
	memset(&sp->area[sp->nr], 0, sizeof(sp->area[0]));
}

/* Reserve an area; false: something is there. */
static bool reserve(struct space *sp, unsigned int lane, struct area *area)
{
	area->owner = lane + 1;
	area->doomed = 0;
	if (find_area(sp, 0, area->iova, area_last(area)) < AREAS)
		return false;
	add_area(sp, area);
	return true;
}

/* Publish the next area of the lane, or remove all that it has reserved. */
static enum outcome publish(struct state *s, unsigned int lane,
			    const struct record *r, struct space *sp)
{
	struct progress *p = &s->progress[lane];
	unsigned int i;

	if (!sp->alive) {
		for (i = sp->nr; i--;)
			if (sp->area[i].owner == lane + 1)
				remove_area(sp, i);
		return answers(s, lane, r, ENOENT);
	}
	if (!p->nr)
		return answers(s, lane, r, 0);
	for (i = 0; sp->area[i].owner != lane + 1; i++)
		;
	sp->area[i].owner = 0;
	sp->locked = lane + 1;
	if (--p->nr)
		return STEP;
	sp->locked = 0;
	return answers(s, lane, r, 0);
}

/* An IOVA that the kernel chose */
static bool is_automatic(__u64 iova, __u64 length)
{
	static __u64 base;

	if (!base)
		base = iova_base();
	return !(iova % PAGE) && iova >= base && iova + length < base + GIB;
}

static enum outcome step_map(struct state *s, unsigned int lane,
			     const struct record *r)
{
	struct progress *p = &s->progress[lane];
	const struct call *c = &r->call;
	struct area area = { .iova = r->out, .pages = c->pages,
			     .first = c->first, .write = c->write };
	struct space *sp;

	if (p->step)
		return publish(s, lane, r, &s->space[p->space]);
	sp = find_space(s, r->id);
	if (!sp)
		return answers(s, lane, r, ENOENT);
	if (sp->locked)
		return REFUSED;
	p->space = sp - s->space;
	/* Where it was is unknown, if the IOAS was destroyed. */
	if (c->place >= SLOTS && r->err)
		return r->err == ENOENT ? STEP : answers(s, lane, r, 0);
	if (c->place >= SLOTS && !is_automatic(r->out, c->pages * PAGE))
		return refuse(s, lane, r, "an automatic IOVA");
	if (!reserve(sp, lane, &area)) {
		if (c->place >= SLOTS)
			return refuse(s, lane, r, "an IOVA that is free");
		return answers(s, lane, r, EEXIST);
	}
	p->nr = 1;
	return STEP;
}

/* What a COPY finds at its source; false: a gap. */
static bool copy_source(const struct space *sp, struct progress *p, __u64 iova,
			__u64 last)
{
	while (iova <= last) {
		unsigned int i = find_area(sp, 0, iova, iova), skip;
		struct area *to = &p->area[p->nr];
		const struct area *from;

		if (i == AREAS || sp->area[i].owner)
			return false;
		from = &sp->area[i];
		skip = (iova - from->iova) / PAGE;
		*to = *from;
		to->iova = iova;
		to->first += skip;
		to->pages -= skip;
		if (area_last(to) > last)
			to->pages -= (area_last(to) - last) / PAGE;
		iova += to->pages * PAGE;
		p->nr++;
	}
	return true;
}

static enum outcome step_copy(struct state *s, unsigned int lane,
			      const struct record *r)
{
	struct progress *p = &s->progress[lane];
	__u64 length = r->call.pages * PAGE;
	bool fixed = r->call.to < SLOTS;
	struct space *sp;
	unsigned int i;

	if (p->step == 0) {
		sp = find_space(s, r->id);
		if (sp && sp->locked)
			return REFUSED;
		if (!sp || !copy_source(sp, p, r->iova, r->iova + length - 1))
			return answers(s, lane, r, ENOENT);
		return STEP;
	}
	if (p->step > 1)
		return publish(s, lane, r, &s->space[p->space]);

	sp = find_space(s, r->to_id);
	if (!sp)
		return answers(s, lane, r, ENOENT);
	if (sp->locked)
		return REFUSED;
	if (fixed && find_area(sp, 0, r->to_iova, r->to_iova + length - 1) < AREAS)
		return answers(s, lane, r, EEXIST);
	for (i = 0; i < p->nr && r->call.write; i++)
		if (!p->area[i].write)
			return answers(s, lane, r, EPERM);
	p->space = sp - s->space;
	if (!fixed && r->err) {
		p->nr = 0;
		return r->err == ENOENT ? STEP : answers(s, lane, r, 0);
	}
	if (!fixed && !r->err && !is_automatic(r->out, length))
		return refuse(s, lane, r, "an automatic IOVA");
	for (i = 0; i < p->nr; i++) {
		p->area[i].iova += r->out - r->iova;
		if (!reserve(sp, lane, &p->area[i]))
			return refuse(s, lane, r, "an IOVA that is free");
	}
	memset(p->area, 0, sizeof(p->area));
	return STEP;
}

static enum outcome step_unmap(struct state *s, unsigned int lane,
			       const struct record *r)
{
	bool all = r->call.kind == UNMAP_ALL;
	__u64 last = all ? U64_MAX : r->iova + r->length - 1, length = 0;
	struct progress *p = &s->progress[lane];
	struct space *sp;
	unsigned int i;

	if (p->step) {
		sp = &s->space[p->space];
		for (i = 0; sp->area[i].doomed != lane + 1; i++)
			;
		remove_area(sp, i);
		if (--p->nr)
			return STEP;
		sp->locked = 0;
		return DONE;
	}
	sp = find_space(s, r->id);
	if (!sp) {
		/* It may have found the IOAS before the DESTROY. */
		if (all && !r->err && !r->out_length)
			return DONE;
		return answers(s, lane, r, ENOENT);
	}
	if (sp->locked)
		return REFUSED;
	for (i = 0; (i = find_area(sp, i, r->iova, last)) < AREAS; i++) {
		struct area *a = &sp->area[i];

		if (a->owner)
			return answers(s, lane, r, EBUSY);
		if (a->iova < r->iova || area_last(a) > last)
			return answers(s, lane, r, ENOENT);
		length += a->pages * PAGE;
		p->nr++;
	}
	if (!p->nr && !all)
		return answers(s, lane, r, ENOENT);
	if (r->err || r->out_length != length)
		return refuse(s, lane, r, "%llu pages", length / PAGE);
	for (i = 0; (i = find_area(sp, i, r->iova, last)) < AREAS; i++)
		sp->area[i].doomed = lane + 1;
	if (!p->nr)
		return DONE;
	sp->locked = lane + 1;
	p->space = sp - s->space;
	return STEP;
}

/* The published area at an IOVA, or a negative errno */
static int translated(struct state *s, __u32 id, __u64 iova, struct space **sp,
		      const struct area **area)
{
	unsigned int i;

	*sp = find_space(s, id);
	if (!*sp)
		return -ENOENT;
	i = find_area(*sp, 0, iova, iova);
	if (i == AREAS || (*sp)->area[i].owner)
		return -ENOENT;
	*area = &(*sp)->area[i];
	return (*sp)->translates ? 0 : -EOPNOTSUPP;
}

/* Contiguous bytes at an IOVA, within the area and up to the limit */
static __u64 contiguous(const struct area *a, __u64 iova, __u64 limit,
			__u64 *pa)
{
	unsigned int i = (iova - a->iova) / PAGE, k = i + 1;
	__u64 length;

	*pa = pool.pa[a->first + i] + iova % PAGE;
	while (k < a->pages &&
	       pool.pa[a->first + k] == pool.pa[a->first + k - 1] + PAGE)
		k++;
	length = (k - i) * PAGE - iova % PAGE;
	return length < limit ? length : limit;
}

static enum outcome step_get_pa(struct state *s, unsigned int lane,
				const struct record *r)
{
	const struct area *a;
	__u64 pa, length;
	struct space *sp;
	int err;

	err = translated(s, r->id, r->iova, &sp, &a);
	if (err)
		return answers(s, lane, r, -err);
	length = contiguous(a, r->iova, r->length, &pa);
	if (r->err || r->out != pa || r->out_length != length)
		return refuse(s, lane, r, "0x%llx, %llu bytes", pa, length);
	return DONE;
}

static enum outcome step_runs(struct state *s, unsigned int lane,
			      const struct record *r)
{
	__u64 iova = r->iova, last = iova + r->length - 1, pa, length;
	unsigned int room = r->call.limit % RUNS + 1, nr = 0, i;
	struct noiommufd_run run[RUNS] = {};
	const struct area *a;
	struct space *sp;
	int err;

	err = translated(s, r->id, iova, &sp, &a);
	if (err)
		return answers(s, lane, r, -err);
	do {
		length = contiguous(a, iova, last - iova + 1, &pa);
		if (nr && run[nr - 1].phys + run[nr - 1].length == pa) {
			run[nr - 1].length += length;
		} else if (nr < room) {
			run[nr].phys = pa;
			run[nr++].length = length;
		} else {
			break;
		}
		iova += length;
	} while (iova <= last && !translated(s, r->id, iova, &sp, &a));

	if (r->err || r->nr != nr || r->out_length != iova - r->iova)
		return refuse(s, lane, r, "%u runs, %llu bytes", nr,
			      iova - r->iova);
	for (i = 0; i < nr; i++)
		if (r->run[i].phys != run[i].phys ||
		    r->run[i].length != run[i].length)
			return refuse(s, lane, r, "run %u 0x%llx, %llu bytes", i,
				      run[i].phys, run[i].length);
	return DONE;
}

static enum outcome step_detach(struct state *s, unsigned int lane,
				const struct record *r)
{
	struct progress *p = &s->progress[lane];

	if (p->step) {
		s->space[p->old].users--;
		return DONE;
	}
	if (r->err)
		return answers(s, lane, r, 0);
	if (!s->attached)
		return DONE;
	p->old = s->attached - 1;
	s->space[p->old].translates = false;
	s->attached = 0;
	return STEP;
}

static enum outcome step_attach(struct state *s, unsigned int lane,
				const struct record *r)
{
	struct progress *p = &s->progress[lane];
	struct space *sp;

	switch (p->step) {
	case 0:
		sp = find_space(s, r->id);
		/* The id may be that of the HWPT, or of the device, by now. */
		if (!sp)
			return r->err == EINVAL || (!r->err && s->attached) ?
			       DONE : answers(s, lane, r, ENOENT);
		if (r->err)
			return answers(s, lane, r, 0);
		p->space = sp - s->space;
		if (s->attached == p->space + 1)
			return DONE;
		sp->users++;
		return STEP;
	case 1:
		s->space[p->space].translates = true;
		p->old = s->attached;
		s->attached = p->space + 1;
		return p->old ? STEP : DONE;
	case 2:
		s->space[p->old - 1].translates = false;
		return STEP;
	default:
		s->space[p->old - 1].users--;
		return DONE;
	}
}

static enum outcome step_alloc(struct state *s, unsigned int lane,
			       const struct record *r)
{
	struct space *sp = &s->space[s->nr];

	if (r->err)
		return answers(s, lane, r, 0);
	if (find_space(s, r->id))
		return refuse(s, lane, r, "an id of its own");
	expect(s->nr < SPACES);
	sp->id = r->id;
	sp->alive = true;
	s->nr++;
	return DONE;
}

static enum outcome step_destroy(struct state *s, unsigned int lane,
				 const struct record *r)
{
	struct space *sp = find_space(s, r->id);
	unsigned int i;

	/* The id may be that of the HWPT, or of the device, by now. */
	if (!sp)
		return r->err == EBUSY ? DONE : answers(s, lane, r, ENOENT);
	if (sp->locked)
		return REFUSED;
	if (sp->users)
		return answers(s, lane, r, EBUSY);
	for (i = sp->nr; i--;)
		if (!sp->area[i].owner)
			remove_area(sp, i);
	sp->alive = false;
	return answers(s, lane, r, 0);
}

static enum outcome step(struct state *s, unsigned int lane,
			 const struct record *r)
{
	static enum outcome (*const steps[NR_KINDS])(struct state *s,
						     unsigned int lane,
						     const struct record *r) = {
		step_map, step_unmap, step_unmap, step_copy, step_get_pa,
		step_runs, step_attach, step_detach, step_detach, step_alloc,
		step_destroy,
	};
	enum outcome outcome = steps[r->call.kind](s, lane, r);

	if (outcome == STEP) {
		s->progress[lane].step++;
	} else if (outcome == DONE) {
		memset(&s->progress[lane], 0, sizeof(s->progress[lane]));
		s->done[lane]++;
	}
	return outcome;
}

/* The search for an order */

static __u64 seen[SEEN];
static unsigned int nr_seen;

static __u64 hash_of(const struct state *s)
{
	const __u64 *word = (const void *)s;
	__u64 hash = 1;
	size_t i;

	expect_eq(sizeof(*s) % sizeof(*word), 0);
	for (i = 0; i < sizeof(*s) / sizeof(*word); i++)
		hash = (hash ^ word[i]) * 0x9e3779b97f4a7c15ULL ^ hash >> 29;
	return hash ?: 1;
}

/* Was it reached before, on another way? */
static bool was_seen(const struct state *s)
{
	__u64 hash = hash_of(s);
	unsigned int i = hash % SEEN;

	while (seen[i] && seen[i] != hash)
		i = (i + 1) % SEEN;
	if (seen[i])
		return true;
	/* Better slow than wrong */
	if (nr_seen < SEEN / 2) {
		seen[i] = hash;
		nr_seen++;
	}
	return false;
}

/* Has a call of another lane ended before this one began? */
static bool must_wait(const struct history *h, const struct state *s,
		      unsigned int lane)
{
	unsigned int start = h->record[lane][s->done[lane]].start, i;

	for (i = 0; i < LANES; i++)
		if (i != lane && s->done[i] < h->nr[i] &&
		    h->record[i][s->done[i]].end < start)
			return true;
	return false;
}

static bool search(const struct history *h, const struct state *s)
{
	unsigned int lane, left = 0;
	struct state next;
	bool found = false;

	for (lane = 0; lane < LANES; lane++)
		left += h->nr[lane] - s->done[lane];
	if (!left)
		return true;
	if (was_seen(s))
		return false;
	depth++;
	for (lane = 0; !found && lane < LANES; lane++) {
		if (s->done[lane] == h->nr[lane] ||
		    (!s->progress[lane].step && must_wait(h, s, lane)))
			continue;
		memcpy(&next, s, sizeof(next));
		if (step(&next, lane, &h->record[lane][s->done[lane]]) != REFUSED)
			found = search(h, &next);
	}
	depth--;
	return found;
}

static bool is_explained(const struct history *h)
{
	struct state s;
	unsigned int i;

	memset(&s, 0, sizeof(s));
	memset(seen, 0, sizeof(seen));
	memset(&stuck, 0, sizeof(stuck));
	nr_seen = 0;
	depth = 0;
	for (i = 0; i < IOASES; i++) {
		s.space[i].id = all_ids[i];
		s.space[i].alive = true;
	}
	s.nr = IOASES;
	return search(h, &s);
}

/* Running a program */

static pthread_barrier_t barrier;
static const struct program *running;

static void run_lane(unsigned int lane)
{
	const struct program *p = running;
	unsigned int i;

	for (i = 0; i < p->nr; i++)
		if (p->call[i].lane == lane)
			do_call(&history.record[lane][history.nr[lane]++],
				&p->call[i]);
}

static void *worker(void *arg)
{
	for (;;) {
		pthread_barrier_wait(&barrier);
		run_lane((uintptr_t)arg);
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void start_workers(void)
{
	pthread_t thread;
	uintptr_t i;

	expect_eq(pthread_barrier_init(&barrier, NULL, LANES), 0);
	for (i = 1; i < LANES; i++)
		expect_eq(pthread_create(&thread, NULL, worker, (void *)i), 0);
}

/* Look at everything. */
static void look_at_all(void)
{
	struct record *r = history.record[0];
	struct call c = { .limit = 3, .pages = 1 };
	unsigned int i;

	for (i = 0; i < IOASES; i++) {
		c.space = i;
		c.kind = ATTACH;
		do_call(&r[history.nr[0]++], &c);
		c.kind = GET_PA;
		for (c.place = 0; c.place < SLOTS + AUTOMATIC; c.place++)
			do_call(&r[history.nr[0]++], &c);
		c.kind = UNMAP_ALL;
		c.place = 0;
		do_call(&r[history.nr[0]++], &c);
	}
}

static void new_spaces(void)
{
	unsigned int i;

	for (i = 0; i < nr_ids; i++)
		object_destroy(iommu, all_ids[i]);
	for (i = 0; i < IOASES; i++) {
		ids[i] = new_ioas(iommu);
		all_ids[i] = ids[i];
	}
	nr_ids = IOASES;
	memset(automatic, 0, sizeof(automatic));
}

static void new_context(void)
{
	if (iommu) {
		close(dev);
		close(iommu);
	}
	nr_ids = 0;
	iommu = iommu_open();
	open_device();
	new_spaces();
}

static long long pins_before;
static bool pins_are_wrong;

/* Run it, and look whether the answers are right. */
static bool passes(const struct program *p, bool look_at_pins)
{
	bool right;

	memset(history.nr, 0, sizeof(history.nr));
	clock_now = 0;
	running = p;
	run_lane(0);
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	look_at_all();
	right = is_explained(&history);
	expect_ok(dev_detach(dev));
	new_spaces();
	pins_are_wrong = right && look_at_pins && pins() != pins_before;
	return right && !pins_are_wrong;
}

/* Random programs */

/* Where an earlier call may have mapped something, or anywhere */
static void random_place(const struct program *p, struct call *c)
{
	const struct call *other;
	unsigned int try;
	bool copied;

	c->space = one_in(3);
	c->place = one_in(6) ? SLOTS + draw(AUTOMATIC) : draw(SLOTS);
	c->pages = 1 + draw(one_in(2) ? 2 : 5);
	for (try = 0; p->nr && try < 8; try++) {
		other = &p->call[draw(p->nr)];
		copied = other->kind == COPY;
		if (!copied && other->kind != MAP)
			continue;
		c->space = copied ? other->to_space : other->space;
		c->place = copied ? other->to : other->place;
		c->pages = one_in(4) ? c->pages : other->pages;
		/* Beside it */
		if (c->place < SLOTS && (c->kind == MAP || one_in(5)))
			c->place = (c->place + other->pages) % SLOTS;
		break;
	}
	if (c->place < SLOTS && c->place + c->pages > SLOTS)
		c->pages = SLOTS - c->place;
}

static void random_call(struct program *p, unsigned int lane,
			unsigned int *allocs)
{
	struct call *c = &p->call[p->nr];
	unsigned int drawn = draw(99);

	memset(c, 0, sizeof(*c));
	for (c->kind = 0; drawn >= weight[c->kind]; c->kind++)
		drawn -= weight[c->kind];
	if (c->kind == ALLOC && ++*allocs > SPACES - IOASES)
		c->kind = GET_PA;
	if (!p->nr && !one_in(4))
		c->kind = ATTACH;
	c->lane = lane;
	random_place(p, c);
	c->to_space = one_in(3);
	c->to = one_in(6) ? SLOTS + draw(AUTOMATIC) :
			    draw(SLOTS - c->pages + 1);
	c->first = draw(KINDS) * SEGMENT + draw(SEGMENT - c->pages + 1);
	c->write = !one_in(3);
	c->limit = draw(12);
	c->delay = one_in(2) ? draw(400) : 0;
	if ((c->kind == GET_PA || c->kind == GET_RUNS) && one_in(4))
		c->offset = 1 + draw(PAGE - 1);
	p->nr++;
}

static void random_program(struct program *p, __u64 seed)
{
	unsigned int before, threads, calls, lane, i, allocs = 0;

	seed_random(seed);
	p->nr = 0;
	before = one_in(4) ? draw(BEFORE) : BEFORE;
	for (i = 0; i < before; i++)
		random_call(p, 0, &allocs);
	threads = 1 + draw(THREADS);
	for (lane = 1; lane <= threads; lane++) {
		calls = 1 + draw(CALLS);
		for (i = 0; i < calls; i++)
			random_call(p, lane, &allocs);
	}
}

/* Fewer calls */

/* Tries that a candidate gets, and that the last one needed */
static unsigned int tries, needed;
static double shrink_end;

static bool fails(const struct program *p)
{
	unsigned int i;

	if (now() > shrink_end)
		return false;
	new_context();
	/* What leaked before is not this one's. */
	pins_before = pins();
	for (i = 0; i < tries && now() < shrink_end; i++) {
		needed = i + 1;
		if (!passes(p, true))
			return true;
	}
	return false;
}

static bool fails_without(struct program *p, unsigned int first, unsigned int nr)
{
	struct program fewer = *p;

	memmove(&fewer.call[first], &fewer.call[first + nr],
		(fewer.nr - first - nr) * sizeof(fewer.call[0]));
	fewer.nr -= nr;
	if (!fails(&fewer))
		return false;
	*p = fewer;
	return true;
}

/* One after the other, in the order in which they ended last time */
static bool fails_alone(struct program *p)
{
	unsigned int next[LANES] = {}, lane, best;
	struct program alone = { .nr = 0 };

	while (alone.nr < p->nr) {
		best = LANES;
		for (lane = 0; lane < LANES; lane++) {
			/* Lane 0 has more: what was looked at in the end. */
			if (next[lane] == history.nr[lane] ||
			    (!lane && next[0] + AUDIT == history.nr[0]))
				continue;
			if (best == LANES ||
			    history.record[lane][next[lane]].end <
			    history.record[best][next[best]].end)
				best = lane;
		}
		alone.call[alone.nr] = history.record[best][next[best]++].call;
		alone.call[alone.nr++].lane = 0;
	}
	if (!fails(&alone))
		return false;
	*p = alone;
	return true;
}

static void shrink(struct program *p)
{
	unsigned int size, first;
	bool less;

	/* Without a race, the first try would show it. */
	if (fails_alone(p))
		tries = 2;
	for (size = p->nr / 2; size; size /= 2) {
		do {
			less = false;
			for (first = 0; first + size <= p->nr;)
				if (fails_without(p, first, size))
					less = true;
				else
					first += size;
		} while (less);
	}
}

/* Reports */

static void print_place(unsigned int space, unsigned int place,
			unsigned int pages)
{
	printf(" %c", 'A' + space);
	if (place >= SLOTS)
		printf(" where the kernel put %u", place - SLOTS);
	else
		printf("+%u", place);
	if (pages)
		printf(", %u pages", pages);
}

static void print_record(unsigned int lane, const struct record *r)
{
	const struct call *c = &r->call;
	unsigned int i;

	if (lane)
		printf("#   thread %u: %s", lane, kind_name[c->kind]);
	else
		printf("#   %s", kind_name[c->kind]);
	switch (c->kind) {
	case MAP:
		print_place(c->space, c->place, c->pages);
		printf(" of %s memory from %u on%s",
		       c->first / SEGMENT == 0 ? "huge" :
		       c->first / SEGMENT == 1 ? "small" : "file",
		       c->first % SEGMENT, c->write ? "" : ", read-only");
		break;
	case COPY:
		print_place(c->space, c->place, c->pages);
		printf(" to");
		print_place(c->to_space, c->to, 0);
		printf("%s", c->write ? "" : ", read-only");
		break;
	case GET_PA:
	case GET_RUNS:
		print_place(c->space, c->place, 0);
		printf(", byte %u, limit %lld", c->offset, r->length);
		break;
	case UNMAP:
		print_place(c->space, c->place, c->pages);
		break;
	case DETACH:
	case CLOSE:
		break;
	default:
		printf(" %c", 'A' + c->space);
	}
	printf(": %s", name_of(r->err));
	if (!r->err && c->kind == GET_PA)
		printf(", 0x%llx, %llu bytes", r->out, r->out_length);
	for (i = 0; !r->err && i < r->nr; i++)
		printf(", 0x%llx %llu bytes", r->run[i].phys, r->run[i].length);
	if (!r->err && (c->kind == UNMAP || c->kind == UNMAP_ALL))
		printf(", %llu pages", r->out_length / PAGE);
	printf("\n");
}

/* In the order in which they ended */
static void print_history(const struct history *h)
{
	unsigned int time, lane, i;

	for (time = 0; time < clock_now; time++)
		for (lane = 0; lane < LANES; lane++)
			for (i = 0; i < h->nr[lane]; i++)
				if (h->record[lane][i].end == time &&
				    (lane || i + AUDIT < h->nr[0]))
					print_record(lane, &h->record[lane][i]);
}

static struct history failed;

static void report(struct program *p, __u64 seed, unsigned long round)
{
	unsigned int had = p->nr, i;
	double start = now();
	bool again;

	failed = history;
	printf("# the calls of round %lu, MODEL_SEED=%llu:\n", round, seed);
	print_history(&failed);
	fflush(stdout);

	shrink_end = now() + SHRINK_SECONDS * slow();
	tries = TRIES;
	again = fails(p);
	if (again) {
		failed = history;
		if (needed < TRIES / 20)
			tries = 20 * needed;
		shrink(p);
		/* The last candidate may have passed. */
		for (i = 0; i < 4; i++) {
			shrink_end = now() + 10;
			if (fails(p))
				break;
		}
	}
	printf("# %u of %u calls are left after %.0f s%s:\n", p->nr, had,
	       now() - start, again ? "" : ", because it did not fail again");
	print_history(again ? &history : &failed);
	if (again && pins_are_wrong) {
		printf("# then pages are pinned: expected %lld, got %lld\n",
		       pins_before, pins());
	} else if (again) {
		printf("# no order explains:\n");
		print_record(stuck.lane, &history.record[stuck.lane][stuck.index]);
		printf("# expected: %s\n", stuck.text);
	}
	fflush(stdout);
	fail("round %lu, MODEL_SEED=%llu: %u calls of %u fail, see above", round,
	     seed, p->nr, had);
}

/* The test */

/* Keep the memory in its place. */
static void hold_pool(void)
{
	int holder = iommu_open(), other = cdev_open(edu_behind_bridge());
	__u32 devid, ioas = new_ioas(holder);
	unsigned int i;

	expect_ok(dev_bind(other, holder, &devid));
	attach(other, ioas);
	for (i = 0; i < POOL; i++)
		expect_ok(ioas_map(holder, ioas, pool.va[i], PAGE,
				   FIXED_IOVA + i * PAGE));
	for (i = 0; i < POOL; i++) {
		pool.pa[i] = pagemap_pa(pool.va[i]);
		expect(pool.pa[i]);
	}
}

static void make_pool(void)
{
	char *huge = mem_flags(2 * HUGE_PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS);
	char *small = mem(SEGMENT * PAGE), *file;
	unsigned int i;

	huge = (char *)(((uintptr_t)huge + HUGE_PAGE - 1) & -HUGE_PAGE);
	madvise(huge, HUGE_PAGE, MADV_HUGEPAGE);
	memset(huge, 1, HUGE_PAGE);
	pool.fd = expect_ok(memfd_create("model", MFD_CLOEXEC));
	expect_ok(ftruncate(pool.fd, SEGMENT * PAGE));
	file = mmap(NULL, SEGMENT * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		    pool.fd, 0);
	expect(file != MAP_FAILED);
	memset(file, 1, SEGMENT * PAGE);
	for (i = 0; i < SEGMENT; i++) {
		pool.va[i] = huge + i * PAGE;
		pool.va[SEGMENT + i] = small + i * PAGE;
		pool.va[2 * SEGMENT + i] = file + i * PAGE;
	}
	hold_pool();
}

static void count(void)
{
	unsigned int lane, i;

	for (lane = 0; lane < LANES; lane++)
		for (i = 0; i < history.nr[lane]; i++) {
			const struct record *r = &history.record[lane][i];

			if (lane || i + AUDIT < history.nr[0])
				done_of[r->call.kind][!r->err]++;
		}
}

static void summary(unsigned long rounds)
{
	unsigned int i;

	printf("# %lu sequences;", rounds);
	for (i = 0; i < NR_KINDS; i++)
		printf(" %s %lu of %lu%s", kind_name[i], done_of[i][1],
		       done_of[i][0] + done_of[i][1],
		       i + 1 < NR_KINDS ? "," : " succeeded\n");
	fflush(stdout);
}

static unsigned long from_environment(const char *name, unsigned long value)
{
	const char *text = getenv(name);

	return text && *text ? strtoul(text, NULL, 0) : value;
}

TEST_LIMIT(some_order_explains_all, 7200)
{
	unsigned long seconds = from_environment("MODEL_SECONDS", 8), round;
	__u64 seed = from_environment("MODEL_SEED", time(NULL));
	struct program p;
	double end;

	skip_on_mainline("it has no GET_PA_RUNS, and UNMAP may do half");
	printf("# MODEL_SEED=%llu\n", seed);
	fflush(stdout);
	bdf = edu();
	make_pool();
	start_workers();
	pins_before = pins();
	new_context();
	end = now() + seconds;
	for (round = 0; now() < end; round++) {
		random_program(&p, seed + round);
		if (!passes(&p, true))
			report(&p, seed, round);
		count();
	}
	summary(round);
}
