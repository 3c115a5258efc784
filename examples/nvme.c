// SPDX-License-Identifier: GPL-2.0-only
/*
 * nvme: write a pattern over an NVMe namespace from user space, read it back
 * by DMA into other memory, and compare every byte.
 *
 * libnoiommufd has the device and its memory, nvme_ctrl.c the controller. Here:
 * memory that is physically scattered on purpose, a queue that is kept full, and
 * what is printed.
 */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "nvme_ctrl.h"

#define MIB		(1024 * 1024ull)
#define WINDOW		(64 * MIB)	/* memory for each direction, at most */
#define TABLE_ROWS	6

#define fail(fmt, ...)							\
	(fprintf(stderr, fmt "\n", ##__VA_ARGS__), -1)

struct options {
	const char *device;
	__u64 bytes;
	__u64 seed;
	unsigned int depth;
	size_t transfer;
	bool pattern_only;
	unsigned int args;
};

/* Memory for DMA */
struct buffer {
	__u8 *va;
	size_t len;
	struct noiommufd_dma *dma;
};

struct job {
	struct nvme *ctrl;
	const struct options *opts;
	struct buffer out;	/* the device reads it */
	struct buffer in;	/* the device writes it */
	double write_s;
	double read_s;
	__u64 written;
	__u64 read;
};

/* The signal that asked us to stop; written by its handler. */
static int stop;

static void on_signal(int sig)
{
	__atomic_store_n(&stop, sig, __ATOMIC_RELAXED);
}

static int stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_RELAXED);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* A number that looks random (splitmix64), the same for the same input. */
static __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* What the namespace holds from @offset on. Both are multiples of 8. */
static void pattern(__u64 *to, __u64 seed, __u64 offset, size_t len)
{
	__u64 word = offset / sizeof(*to);
	size_t i;

	seed = mix(seed);
	for (i = 0; i < len / sizeof(*to); i++)
		to[i] = mix(seed ^ (word + i));
}

static int print_pattern(__u64 seed, __u64 bytes)
{
	__u64 buf[8192], done;

	for (done = 0; done < bytes; done += sizeof(buf)) {
		size_t len = sizeof(buf);

		if (len > bytes - done)
			len = bytes - done;
		pattern(buf, seed, done, sizeof(buf));
		if (fwrite(buf, 1, len, stdout) != len)
			return fail("Cannot write the pattern: %m.");
	}
	if (fflush(stdout))
		return fail("Cannot write the pattern: %m.");
	return 0;
}

/*
 * Neighbouring pages that are not neighbours in physical memory: pages get
 * their memory when they are first touched, so touch them in random order.
 * Real programs come to have such memory by running for long.
 */
static int scattered(struct nvme *ctrl, struct buffer *buf, size_t len,
		     __u64 seed)
{
	size_t page = sysconf(_SC_PAGESIZE), pages = len / page, i;
	__u32 *order = malloc(pages * sizeof(*order));

	buf->len = len;
	buf->va = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!order || buf->va == MAP_FAILED)
		return fail("Out of memory for %zu MiB: use less with --mib.",
			    (size_t)(len / MIB));
	madvise(buf->va, len, MADV_NOHUGEPAGE);

	for (i = 0; i < pages; i++)
		order[i] = i;
	for (i = pages - 1; i; i--) {
		size_t j = mix(seed ^ i) % (i + 1);
		__u32 tmp = order[i];

		order[i] = order[j];
		order[j] = tmp;
	}
	for (i = 0; i < pages; i++)
		buf->va[order[i] * page] = 1;
	free(order);

	buf->dma = noiommufd_map(ctrl->ioas, buf->va, len, 0);
	return buf->dma ? 0 : -1;
}

static void print_runs(const char *what, const struct buffer *buf)
{
	__u64 iova = noiommufd_iova(buf->dma);
	struct noiommufd_run runs[TABLE_ROWS];
	long num, i;

	num = noiommufd_runs(buf->dma, buf->va, buf->len, runs, TABLE_ROWS);
	printf("%s memory\n  %-18s    %-18s %s\n", what, "IOVA",
	       "physical address", "bytes");
	for (i = 0; i < num && i < TABLE_ROWS; i++) {
		printf("  %#-18llx -> %#-18llx %llu\n", iova, runs[i].phys,
		       runs[i].length);
		iova += runs[i].length;
	}
	printf("  %ld physically contiguous runs in %zu pages\n", num,
	       buf->len / sysconf(_SC_PAGESIZE));
}

static void progress(const char *what, __u64 done, __u64 total)
{
	static int shown = -1;
	int percent = done * 100 / total, width = 40, full;

	if (!isatty(STDOUT_FILENO) || percent == shown)
		return;
	shown = percent;
	full = percent * width / 100;
	printf("\r%-7s [%.*s%*s] %3d %%", what, full,
	       "########################################", width - full, "",
	       percent);
	if (done == total)
		printf("\r%60s\r", "");
	fflush(stdout);
}

/*
 * Move @len bytes between the namespace at @offset and @buf, as many commands
 * in flight as the queue takes. Command ids are those of idle commands.
 */
static int transfer(struct job *job, bool write, struct buffer *buf,
		    __u64 offset, size_t len)
{
	struct nvme *ctrl = job->ctrl;
	__u16 idle[64], cids[64];
	unsigned int nr_idle = ctrl->depth;
	size_t lens[64] = { 0 };
	__u64 *count = write ? &job->written : &job->read;
	double *seconds = write ? &job->write_s : &job->read_s;
	double start = now();
	size_t done = 0;
	int i, n;

	for (i = 0; i < (int)nr_idle; i++)
		idle[i] = i;

	while ((done < len && !stopped()) || nr_idle < ctrl->depth) {
		bool submitted = false;

		while (done < len && nr_idle && !stopped()) {
			unsigned int cid = idle[--nr_idle];
			size_t part = ctrl->max_transfer;

			if (part > len - done)
				part = len - done;
			nvme_submit(ctrl, write, cid, offset + done, part,
				    buf->dma, buf->va + done);
			lens[cid] = part;
			done += part;
			submitted = true;
		}
		if (submitted)
			nvme_ring(ctrl);

		n = nvme_wait(ctrl, cids);
		if (n < 0)
			return n;
		for (i = 0; i < n; i++) {
			idle[nr_idle++] = cids[i];
			*count += lens[cids[i]];
		}
		progress(write ? "write" : "read", *count, job->opts->bytes);
	}
	*seconds += now() - start;
	return stopped() ? -1 : 0;
}

static int write_all(struct job *job)
{
	__u64 offset;
	size_t len;

	for (offset = 0; offset < job->opts->bytes; offset += len) {
		len = job->out.len;
		if (len > job->opts->bytes - offset)
			len = job->opts->bytes - offset;
		pattern((__u64 *)job->out.va, job->opts->seed, offset, len);
		if (transfer(job, true, &job->out, offset, len))
			return -1;
	}
	return 0;
}

static int read_and_compare(struct job *job)
{
	__u64 offset;
	size_t len, i;

	for (offset = 0; offset < job->opts->bytes; offset += len) {
		len = job->in.len;
		if (len > job->opts->bytes - offset)
			len = job->opts->bytes - offset;

		/* Different in every word from what has to come. */
		pattern((__u64 *)job->out.va, job->opts->seed, offset, len);
		for (i = 0; i < len; i++)
			job->in.va[i] = ~job->out.va[i];

		if (transfer(job, false, &job->in, offset, len))
			return -1;
		if (!memcmp(job->in.va, job->out.va, len))
			continue;
		for (i = 0; job->in.va[i] == job->out.va[i]; i++)
			;
		return fail("Byte %llu differs: wrote %#x, read %#x.",
			    (offset + i), job->out.va[i],
			    job->in.va[i]);
	}
	return 0;
}

static int run(struct nvme *ctrl, struct options *opts)
{
	struct job job = { .ctrl = ctrl, .opts = opts };
	__u64 capacity = ctrl->blocks * ctrl->block_size;
	size_t window = opts->bytes < WINDOW ? opts->bytes : WINDOW;
	size_t page = sysconf(_SC_PAGESIZE);

	printf("Device      %s\n", ctrl->bdf);
	printf("Model       %s\n", ctrl->model);
	printf("Serial      %s\n", ctrl->serial);
	printf("Capacity    %llu MiB (namespace %u, %llu blocks of %zu bytes)\n",
	       (capacity / MIB), ctrl->nsid,
	       ctrl->blocks, ctrl->block_size);

	if (opts->bytes > capacity)
		return fail("The namespace has %llu bytes only: use less with --mib or --bytes.",
			    capacity);
	if (opts->bytes % ctrl->block_size)
		return fail("--bytes has to be a multiple of the block size, %zu.",
			    ctrl->block_size);

	if (nvme_start_io(ctrl, opts->depth, opts->transfer))
		return -1;
	printf("Queue       %u commands of at most %zu KiB in flight\n",
	       ctrl->depth, ctrl->max_transfer >> 10);

	window = (window + page - 1) / page * page;
	if (scattered(ctrl, &job.out, window, opts->seed) ||
	    scattered(ctrl, &job.in, window, ~opts->seed))
		return -1;
	print_runs("Write", &job.out);
	print_runs("Read", &job.in);

	if (write_all(&job) || read_and_compare(&job))
		return -1;

	printf("Write       %.1f MiB/s\n", job.written / job.write_s / MIB);
	printf("Read        %.1f MiB/s\n", job.read / job.read_s / MIB);
	printf("Interrupts  %lu (admin %lu, I/O %lu)\n",
	       ctrl->admin.interrupts + ctrl->io.interrupts,
	       ctrl->admin.interrupts, ctrl->io.interrupts);
	printf("Compared    %llu bytes, seed %llu: all equal\n",
	       job.read, opts->seed);
	return 0;
}

static const struct argp_option argp_options[] = {
	{ "device", 'd', "BDF", 0,
	  "The same as BDF, a PCI address (default: the only device in noiommu mode)",
	  0 },
	{ "mib", 'm', "MIB", 0, "How much to write and read (default: 64)", 0 },
	{ "bytes", 'b', "BYTES", 0, "The same in bytes", 0 },
	{ "seed", 's', "SEED", 0, "Seed of the pattern (default: 1)", 0 },
	{ "queue-depth", 'q', "N", 0,
	  "Commands in flight, 1 to 63 (default: 32)", 0 },
	{ "transfer", 't', "KIB", 0,
	  "Size of a command, at most what the controller takes (default: 512)",
	  0 },
	{ "pattern-only", 'p', NULL, 0,
	  "Touch no device: print the BYTES that the namespace would hold", 0 },
	{ 0 }
};

static __u64 parse_number(struct argp_state *state, const char *arg,
			  __u64 max)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(arg, &end, 0);
	if (errno || end == arg || *end || strchr(arg, '-') || value > max)
		argp_error(state, "%s is not a number from 0 to %llu", arg,
			   max);
	return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *opts = state->input;

	switch (key) {
	case 'd':
		opts->device = arg;
		return 0;
	case 'm':
		opts->bytes = parse_number(state, arg, UINT32_MAX) * MIB;
		return 0;
	case 'b':
		opts->bytes = parse_number(state, arg, UINT64_MAX >> 8);
		return 0;
	case 's':
		opts->seed = parse_number(state, arg, UINT64_MAX);
		return 0;
	case 'q':
		opts->depth = parse_number(state, arg, 63);
		return 0;
	case 't':
		opts->transfer = parse_number(state, arg, UINT32_MAX) << 10;
		return 0;
	case 'p':
		opts->pattern_only = true;
		return 0;
	case ARGP_KEY_ARG:
		opts->args++;
		if (!opts->pattern_only)
			opts->device = arg;
		else if (opts->args == 1)
			opts->seed = parse_number(state, arg, UINT64_MAX);
		else
			opts->bytes = parse_number(state, arg, UINT64_MAX >> 8);
		return 0;
	case ARGP_KEY_END:
		if (opts->pattern_only ? opts->args != 2 : opts->args > 1)
			argp_usage(state);
		if (!opts->bytes || !opts->depth || opts->transfer < 4096)
			argp_error(state,
				   "bytes and depth start at 1, transfer at 4");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse,
	.args_doc = "[BDF]\n--pattern-only SEED BYTES",
	.doc =
"Write a pattern over an NVMe namespace from user space, through a noiommu cdev, read it back by DMA into other memory and compare every byte. WHAT THE NAMESPACE HOLDS IS OVERWRITTEN.\vExit status: 0 if every byte was equal, 1 if not or on an error, 130 when interrupted.",
};

int main(int argc, char **argv)
{
	struct options opts = {
		.bytes = 64 * MIB,
		.seed = 1,
		.depth = 32,
		.transfer = 512 << 10,
	};
	/* Once more kills at once. */
	struct sigaction action = {
		.sa_handler = on_signal,
		.sa_flags = SA_RESETHAND,
	};
	struct nvme ctrl;
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &opts);
	if (opts.pattern_only)
		return print_pattern(opts.seed, opts.bytes) ? 1 : 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);

	if (nvme_open(&ctrl, opts.device, NULL))
		return 1;
	rc = run(&ctrl, &opts);
	nvme_close(&ctrl);
	if (stopped()) {
		fprintf(stderr, "\nInterrupted; the controller was shut down.\n");
		return 128 + stopped();
	}
	return rc ? 1 : 0;
}
