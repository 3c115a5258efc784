// SPDX-License-Identifier: GPL-2.0-only
/*
 * handover: replace the driver of an NVMe controller while its commands are in
 * flight. The driver is killed again and again; each successor goes on where the
 * predecessor was, without a reset. Every block is read back and compared.
 *
 * There are two processes. The driver (--driver) keeps all that it has to know in
 * memory that is handed over, and can be killed between any two instructions. The
 * holder keeps the files, as a service manager does: what the driver tells it is the
 * protocol of systemd's file descriptor store, so systemd can take its place.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nvme_ctrl.h"

#define DEPTH		32
#define TRANSFER	16384u
#define PLACES		4		/* of each command id, in the namespace */
#define VECTOR		1		/* of the I/O queue */
#define JOB		"job"
#define DATA		"data"

#define MAX_FILES	64
#define FIRST_FD	3		/* as service managers pass them */
#define TRY_AGAIN	75		/* EX_TEMPFAIL */
#define READY_MS	60000

struct options {
	const char *device;
	unsigned int kills;
	unsigned int pause_ms;
	unsigned int seed;
	bool driver;
};

/* Asked to end for good; written by the handler of the signal */
static int stop;

[[gnu::format(printf, 1, 2)]]
static int fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return -1;
}

static void on_signal(int sig)
{
	(void)sig;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
}

/* A number that looks random (splitmix64), the same for the same input */
static __u64 mix(__u64 x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/* The protocol between the driver and the holder */

static int send_to_holder(const char *path, int fd, const char *text)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char control[CMSG_SPACE(sizeof(fd))] = { 0 };
	struct iovec iov = { (void *)text, strlen(text) };
	struct msghdr message = {
		.msg_name = &to,
		.msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(path),
		.msg_iov = &iov,
		.msg_iovlen = 1,
	};
	struct cmsghdr *header;
	int s, rc;

	if (strlen(path) >= sizeof(to.sun_path))
		return fail("NOTIFY_SOCKET is too long: %s.", path);
	memcpy(to.sun_path, path, strlen(path));
	if (*path == '@')
		to.sun_path[0] = '\0';
	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	rc = s < 0 || sendmsg(s, &message, MSG_NOSIGNAL) < 0;
	if (rc)
		fail("Cannot send to the holder, %s: %m.", path);
	if (s >= 0)
		close(s);
	return rc ? -1 : 0;
}

/* As sd_pid_notify_with_fds(); @fd may be -1 */
[[gnu::format(printf, 2, 3)]]
static int notify(int fd, const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	char text[256];
	va_list args;

	if (!path)
		return fail("--driver is for a service manager, which sets NOTIFY_SOCKET.");
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return send_to_holder(path, fd, text);
}

/* As sd_listen_fds_with_names() */
static unsigned int files_from_holder(struct noiommufd_file *files)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	const char *names = getenv("LISTEN_FDNAMES");
	unsigned int n, i;

	if (!pid || !count || !names || atoi(pid) != getpid())
		return 0;
	n = atoi(count);
	if (n > MAX_FILES)
		n = MAX_FILES;
	for (i = 0; i < n; i++) {
		size_t length = strcspn(names, ":");

		files[i].fd = FIRST_FD + i;
		snprintf(files[i].name, sizeof(files[i].name), "%.*s", (int)length, names);
		names += length + !!names[length];
	}
	return n;
}

/* The driver */

/*
 * A command id does this for ever: command 2n writes in round n, command 2n + 1 reads
 * what was written some rounds ago.
 */
struct slot {
	__u64 done;		/* commands that have been completed */
	__u64 number;		/* of the command that was submitted last, plus 1 */
	__u64 ticket;		/* its place among all commands */
};

/* What a successor has to know, in memory that is handed over */
struct job {
	__u64 seed;
	struct slot slots[DEPTH];
	__u64 takeovers;
	__u64 found_in_flight;	/* by all takeovers */
	__u64 found_completed;
	__u64 found_interrupts;
};

struct driver {
	struct nvme ctrl;
	struct job *job;
	struct noiommufd_dma *data;
	bool first;		/* the first completion may have been dealt with already */
};

static __u64 round_of(__u64 number)
{
	__u64 round = number / 2;

	/* What is the oldest in the namespace by then */
	return number % 2 && round + 1 >= PLACES ? round + 1 - PLACES : round;
}

static __u64 offset_of(unsigned int cid, __u64 round)
{
	return (cid + round % PLACES * DEPTH) * TRANSFER;
}

static void *buffer(struct driver *d, unsigned int cid)
{
	return (char *)noiommufd_va(d->data) + cid * TRANSFER;
}

/* What a block holds after a round; @invert: what it never holds */
static void fill(struct driver *d, __u64 *to, unsigned int cid, __u64 round, bool invert)
{
	__u64 seed = mix(d->job->seed ^ round << 40), offset = offset_of(cid, round);
	size_t i;

	for (i = 0; i < TRANSFER / sizeof(*to); i++)
		to[i] = mix(seed ^ (offset / sizeof(*to) + i)) ^ (invert ? ~0ULL : 0);
}

static int compare(struct driver *d, unsigned int cid, __u64 round)
{
	__u64 want[TRANSFER / sizeof(__u64)];

	fill(d, want, cid, round, false);
	if (!memcmp(want, buffer(d, cid), TRANSFER))
		return 0;
	return fail("The block at %llu does not hold what round %llu wrote.",
		    offset_of(cid, round), round);
}

static bool in_flight(struct driver *d, unsigned int cid)
{
	const struct slot *slot = &d->job->slots[cid];

	return slot->number == slot->done + 1 && slot->ticket < d->ctrl.io.place->tail;
}

static void submit(struct driver *d, unsigned int cid)
{
	struct slot *slot = &d->job->slots[cid];
	__u64 round = round_of(slot->done);
	bool write = slot->done % 2 == 0;

	fill(d, buffer(d, cid), cid, round, !write);
	/* It is in flight when the tail is beyond the ticket, and not before. */
	__atomic_store_n(&slot->ticket, d->ctrl.io.place->tail, __ATOMIC_RELEASE);
	__atomic_store_n(&slot->number, slot->done + 1, __ATOMIC_RELEASE);
	nvme_submit(&d->ctrl, write, cid, offset_of(cid, round), TRANSFER, d->data,
		    buffer(d, cid));
}

/* The completion of a command, which stays the next until it has been dealt with */
static int complete(struct driver *d, unsigned int cid)
{
	struct slot *slot = &d->job->slots[cid];
	bool again = d->first;

	d->first = false;
	if (cid >= DEPTH)
		return fail("There is no command %u.", cid);
	if (!in_flight(d, cid))
		return again ? 0 : fail("Command %u was completed twice.", cid);
	if (slot->done % 2 && compare(d, cid, round_of(slot->done)))
		return -1;
	__atomic_store_n(&slot->done, slot->done + 1, __ATOMIC_RELEASE);
	return 0;
}

/* Returns how many completions there were, or -1. */
static int reap(struct driver *d)
{
	int rc, n = 0;
	__u16 cid;

	while ((rc = nvme_peek(&d->ctrl, &cid)) > 0) {
		if (complete(d, cid))
			return -1;
		nvme_next(&d->ctrl);
		n++;
	}
	return rc < 0 ? -1 : n;
}

static unsigned int count_in_flight(struct driver *d)
{
	unsigned int cid, n = 0;

	for (cid = 0; cid < DEPTH; cid++)
		n += in_flight(d, cid);
	return n;
}

/* Give each idle command id its next command; only reads if the end is near. */
static void submit_idle(struct driver *d)
{
	bool ending = __atomic_load_n(&stop, __ATOMIC_RELAXED), some = false;
	unsigned int cid;

	for (cid = 0; cid < DEPTH; cid++) {
		if (in_flight(d, cid) || (ending && d->job->slots[cid].done % 2 == 0))
			continue;
		submit(d, cid);
		some = true;
	}
	if (some)
		nvme_ring(&d->ctrl);
}

static int wait_for_interrupt(struct driver *d)
{
	long count = noiommufd_irq_wait(d->ctrl.dev, VECTOR, 30000);

	if (count < 0)
		return errno == EINTR ? 0 : -1;
	return count ? 0 : fail("A command was lost: no interrupt in 30 s, %u in flight.",
				count_in_flight(d));
}

static int work(struct driver *d)
{
	for (;;) {
		if (reap(d) < 0)
			return -1;
		submit_idle(d);
		if (!count_in_flight(d))
			return 0;
		if (wait_for_interrupt(d))
			return -1;
	}
}

/* Read what each command id has written in the round that is @back rounds ago. */
static int verify_rounds(struct driver *d, unsigned int back)
{
	struct slot *slots = d->job->slots;
	unsigned int cid, left = 0;
	__u16 cids[DEPTH];
	int n;

	for (cid = 0; cid < DEPTH; cid++) {
		__u64 round = slots[cid].done / 2 - back;

		if (slots[cid].done / 2 < back)
			continue;
		fill(d, buffer(d, cid), cid, round, true);
		nvme_submit(&d->ctrl, false, cid, offset_of(cid, round), TRANSFER,
			    d->data, buffer(d, cid));
		left++;
	}
	nvme_ring(&d->ctrl);
	while (left) {
		n = nvme_wait(&d->ctrl, cids);
		if (n < 0)
			return -1;
		left -= n;
		while (n--)
			if (compare(d, cids[n], slots[cids[n]].done / 2 - back))
				return -1;
	}
	return 0;
}

/* At the end, read all that has been written. */
static int verify(struct driver *d)
{
	unsigned int back;

	for (back = 1; back <= PLACES; back++)
		if (verify_rounds(d, back))
			return -1;
	return 0;
}

static int report(struct driver *d)
{
	struct job *job = d->job;
	__u64 commands = 0;
	unsigned int cid;

	for (cid = 0; cid < DEPTH; cid++)
		commands += job->slots[cid].done;
	printf("Commands    %llu, of %u KiB\n", commands, TRANSFER >> 10);
	printf("Takeovers   %llu\n", job->takeovers);
	printf("Found       %llu commands in flight, %llu completed meanwhile, %llu interrupts\n",
	       job->found_in_flight, job->found_completed, job->found_interrupts);
	if (d->ctrl.io.place->tail != commands || d->ctrl.io.place->head != commands)
		return fail("%llu commands were submitted, and %llu completed.",
			    d->ctrl.io.place->tail, d->ctrl.io.place->head);
	return 0;
}

static int begin(struct driver *d, const struct options *opts)
{
	struct noiommufd_file files[MAX_FILES];
	struct noiommufd_dma *job;
	int n, i;

	if (nvme_open_labelled(&d->ctrl, opts->device) ||
	    nvme_start_io(&d->ctrl, DEPTH, TRANSFER))
		return -1;
	job = noiommufd_alloc_labelled(d->ctrl.ioas, JOB, sizeof(struct job));
	d->data = noiommufd_alloc_labelled(d->ctrl.ioas, DATA, DEPTH * TRANSFER);
	if (!job || !d->data)
		return -1;
	d->job = noiommufd_va(job);
	d->job->seed = opts->seed;
	if (d->ctrl.depth < DEPTH || d->ctrl.max_transfer < TRANSFER ||
	    d->ctrl.blocks * d->ctrl.block_size < PLACES * DEPTH * TRANSFER)
		return fail("%s is too small for this.", d->ctrl.bdf);
	n = noiommufd_save(d->ctrl.dev, files, MAX_FILES);
	if (n < 0)
		return -1;
	/* The description is the last: who has it has all. */
	for (i = 0; i < n; i++)
		if (notify(files[i].fd, "FDSTORE=1\nFDNAME=%s", files[i].name))
			return -1;
	return 0;
}

/* Have the holder close them. */
static int throw_away(const struct noiommufd_file *files, int num)
{
	int i;

	for (i = 0; i < num; i++)
		if (notify(-1, "FDSTOREREMOVE=1\nFDNAME=%s", files[i].name))
			return -1;
	return num < 0 ? -1 : 0;
}

/* There will be no successor. */
static int end(struct driver *d)
{
	struct noiommufd_file files[MAX_FILES];
	int num = noiommufd_save(d->ctrl.dev, files, MAX_FILES);

	nvme_close(&d->ctrl);
	return throw_away(files, num);
}

static int take_over(struct driver *d, const struct noiommufd_file *files,
		     unsigned int num)
{
	struct noiommufd_device *dev;
	struct noiommufd_dma *job;
	unsigned int before, i;
	long interrupts;

	noiommufd_set_log(noiommufd_print, stderr);
	dev = noiommufd_resume(files, num);
	for (i = 0; i < num; i++)
		close(files[i].fd);
	if (!dev || nvme_take_over(&d->ctrl, dev))
		return -1;
	job = noiommufd_labelled(d->ctrl.ioas, JOB);
	d->data = noiommufd_labelled(d->ctrl.ioas, DATA);
	if (!job || !d->data)
		return -1;
	d->job = noiommufd_va(job);
	d->first = true;

	/* What has happened since */
	interrupts = noiommufd_irq_wait(dev, VECTOR, 0);
	before = count_in_flight(d);
	if (interrupts < 0 || reap(d) < 0)
		return -1;
	d->job->takeovers++;
	d->job->found_in_flight += before;
	d->job->found_completed += before - count_in_flight(d);
	d->job->found_interrupts += interrupts;

	/* A command that was not submitted has a ticket that another one will get. */
	for (i = 0; i < DEPTH; i++)
		if (!in_flight(d, i))
			d->job->slots[i].number = 0;
	return 0;
}

static int drive(const struct options *opts)
{
	struct noiommufd_file files[MAX_FILES];
	unsigned int num = files_from_holder(files), i;
	struct driver d = { 0 };
	int rc;

	for (i = 0; i < num && strcmp(files[i].name, "state"); i++)
		;
	/* The predecessor was killed before it had handed all over. */
	if (num && i == num)
		return throw_away(files, num) ? 1 : TRY_AGAIN;
	rc = num ? take_over(&d, files, num) : begin(&d, opts);
	if (!rc)
		rc = notify(-1, "READY=1");
	if (!rc)
		rc = work(&d);
	if (!rc)
		rc = report(&d) || verify(&d);
	if (!rc)
		printf("Compared    every block: all equal\n");
	if (d.ctrl.dev && end(&d))
		rc = -1;
	return rc ? 1 : 0;
}

/* The holder */

struct holder {
	char dir[32];
	char path[48];
	int socket;
	struct noiommufd_file files[MAX_FILES];
	unsigned int num;
	bool ready;
};

static int open_holder(struct holder *h)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	snprintf(h->dir, sizeof(h->dir), "/tmp/handover-XXXXXX");
	if (!mkdtemp(h->dir))
		return fail("Cannot make %s: %m.", h->dir);
	snprintf(h->path, sizeof(h->path), "%s/notify", h->dir);
	memcpy(at.sun_path, h->path, sizeof(h->path));
	h->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (h->socket < 0 || bind(h->socket, (struct sockaddr *)&at, sizeof(at)))
		return fail("Cannot listen at %s: %m.", h->path);
	return setenv("NOTIFY_SOCKET", h->path, 1);
}

static void close_holder(struct holder *h)
{
	while (h->num)
		close(h->files[--h->num].fd);
	unlink(h->path);
	rmdir(h->dir);
}

static int store(struct holder *h, const char *name, int fd)
{
	struct noiommufd_file *file = &h->files[h->num];

	if (fd < 0 || h->num == MAX_FILES)
		return fail("No file, or too many of them.");
	/* Out of the way of those that the driver gets */
	file->fd = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD + MAX_FILES);
	close(fd);
	if (file->fd < 0)
		return fail("Cannot keep a file: %m.");
	snprintf(file->name, sizeof(file->name), "%s", name);
	h->num++;
	return 0;
}

static void discard(struct holder *h, const char *name)
{
	unsigned int i, left = 0;

	for (i = 0; i < h->num; i++)
		if (strcmp(h->files[i].name, name))
			h->files[left++] = h->files[i];
		else
			close(h->files[i].fd);
	h->num = left;
}

static int obey(struct holder *h, char *text, int fd)
{
	const char *name = "";
	bool keep = false, drop = false;
	char *line, *rest = NULL;

	for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		keep |= !strcmp(line, "FDSTORE=1");
		drop |= !strcmp(line, "FDSTOREREMOVE=1");
		h->ready |= !strcmp(line, "READY=1");
		if (!strncmp(line, "FDNAME=", strlen("FDNAME=")))
			name = line + strlen("FDNAME=");
	}
	if (drop)
		discard(h, name);
	return keep ? store(h, name, fd) : 0;
}

/* Do what the driver asks for, until there is no more. */
static int listen_to_driver(struct holder *h)
{
	for (;;) {
		char text[512], control[CMSG_SPACE(sizeof(int))];
		struct iovec iov = { text, sizeof(text) - 1 };
		struct msghdr message = {
			.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control),
		};
		ssize_t length = recvmsg(h->socket, &message, MSG_CMSG_CLOEXEC);
		struct cmsghdr *header;
		int fd = -1;

		if (length < 0)
			return errno == EAGAIN || errno == EINTR ? 0 :
			       fail("Cannot listen to the driver: %m.");
		text[length] = '\0';
		header = CMSG_FIRSTHDR(&message);
		if (header && header->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		if (obey(h, text, fd))
			return -1;
	}
}

static void become_driver(struct holder *h, const struct options *opts)
{
	char names[MAX_FILES * sizeof(h->files[0].name)] = "", number[16];
	char *const args[] = {
		"handover", "--driver", "--seed", number,
		(char *)(opts->device ? opts->device : NULL), NULL
	};
	unsigned int i;

	for (i = 0; i < h->num; i++) {
		dup2(h->files[i].fd, FIRST_FD + i);
		sprintf(names + strlen(names), "%s%s", i ? ":" : "", h->files[i].name);
	}
	snprintf(number, sizeof(number), "%u", h->num);
	setenv("LISTEN_FDS", number, 1);
	setenv("LISTEN_FDNAMES", names, 1);
	snprintf(number, sizeof(number), "%u", getpid());
	setenv("LISTEN_PID", number, 1);
	snprintf(number, sizeof(number), "%u", opts->seed);
	execv("/proc/self/exe", args);
	fail("Cannot run myself: %m.");
	_exit(1);
}

/* Start a driver, and wait until it works. */
static pid_t start_driver(struct holder *h, const struct options *opts)
{
	struct pollfd ready = { .fd = h->socket, .events = POLLIN };
	pid_t pid;

	h->ready = false;
	fflush(NULL);
	pid = fork();
	if (!pid)
		become_driver(h, opts);
	while (pid > 0 && !h->ready) {
		int status;

		/* In pieces, because a driver that ends sends nothing. */
		poll(&ready, 1, 100);
		if (listen_to_driver(h))
			break;
		if (waitpid(pid, &status, WNOHANG) != pid)
			continue;
		/* The last that it has sent */
		if (listen_to_driver(h) || !WIFEXITED(status) ||
		    WEXITSTATUS(status) != TRY_AGAIN)
			return -1;
		return start_driver(h, opts);
	}
	return h->ready ? pid : -1;
}

static int end_driver(pid_t pid, int sig)
{
	int status;

	kill(pid, sig);
	if (waitpid(pid, &status, 0) != pid)
		return fail("Cannot wait for the driver: %m.");
	if (sig == SIGKILL ? WIFSIGNALED(status) : status == 0)
		return 0;
	return fail("The driver ended with status %#x.", status);
}

static int hold(const struct options *opts)
{
	struct holder h = { .socket = -1 };
	unsigned int i;
	pid_t pid;
	int rc;

	if (open_holder(&h))
		return 1;
	pid = start_driver(&h, opts);
	for (i = 0; pid > 0 && i < opts->kills; i++) {
		usleep(1000 * (20 + mix(opts->seed ^ i) % 200));
		rc = end_driver(pid, SIGKILL) || listen_to_driver(&h);
		pid = -1;
		if (rc)
			break;
		usleep(1000 * opts->pause_ms);
		pid = start_driver(&h, opts);
	}
	if (pid > 0)
		rc = end_driver(pid, SIGTERM);
	else
		rc = fail("The driver could not go on after %u kills.", i);
	close_holder(&h);
	return rc ? 1 : 0;
}

static const struct argp_option argp_options[] = {
	{ "kills", 'k', "N", 0, "How often to kill the driver (default: 5)", 0 },
	{ "pause", 'p', "MS", 0,
	  "Milliseconds without a driver after each kill (default: 200)", 0 },
	{ "seed", 's', "SEED", 0, "Seed of the pattern and of the kills (default: 1)", 0 },
	{ "driver", 'd', NULL, 0,
	  "Be the driver, for a service manager that keeps files", 0 },
	{ 0 }
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *opts = state->input;

	switch (key) {
	case 'k':
		opts->kills = strtoul(arg, NULL, 0);
		return 0;
	case 'p':
		opts->pause_ms = strtoul(arg, NULL, 0);
		return 0;
	case 's':
		opts->seed = strtoul(arg, NULL, 0);
		return 0;
	case 'd':
		opts->driver = true;
		return 0;
	case ARGP_KEY_ARG:
		if (opts->device)
			argp_usage(state);
		opts->device = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.options = argp_options,
	.parser = parse,
	.args_doc = "[BDF]",
	.doc =
"Drive an NVMe controller from user space, kill the driver again and again while commands are in flight, and have successors go on without a reset. Every block that was written is read back and compared. THE FIRST 2 MIB OF THE NAMESPACE ARE OVERWRITTEN.\vExit status: 0 if no command was lost and every byte was equal, else 1.",
};

int main(int argc, char **argv)
{
	struct options opts = { .kills = 5, .pause_ms = 200, .seed = 1 };
	struct sigaction action = { .sa_handler = on_signal };

	argp_parse(&argp, argc, argv, 0, NULL, &opts);
	if (!opts.driver)
		return hold(&opts);
	sigaction(SIGTERM, &action, NULL);
	return drive(&opts);
}
