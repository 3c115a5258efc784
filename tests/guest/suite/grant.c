// SPDX-License-Identifier: GPL-2.0-only
/*
 * GRANT and REVOKE: physical addresses for processes without a right. The module
 * is loaded with allow_grant=1 for this program; pa has the test without.
 */
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <noiommufd/noiommufd.h>

#include "harness.h"

#define KERN_NOTICE	5
#define USER		1000

static int grant_begin(int iommu)
{
	struct noiommufd_grant cmd = { .size = sizeof(cmd) };

	return ioctl(iommu, NOIOMMUFD_GRANT, &cmd);
}

static int grant_end(int iommu)
{
	struct noiommufd_grant cmd = { .size = sizeof(cmd) };

	return ioctl(iommu, NOIOMMUFD_REVOKE, &cmd);
}

/* A page is mapped at PAGE. */
static void setup_page(struct setup *s)
{
	skip_on_mainline("it has no GRANT");
	setup_attached(s);
	expect_ok(ioas_map(s->iommu, s->ioas, mem(PAGE), PAGE, PAGE));
}

/* Ask for that page in both ways, which agree; returns -1 and sets errno. */
static int translate(const struct setup *s)
{
	struct noiommufd_run run = {};
	struct noiommufd_ioas_get_pa_runs runs = {
		.size = sizeof(runs), .ioas_id = s->ioas, .num_runs = 1,
		.iova = PAGE, .length = PAGE, .runs = (uintptr_t)&run,
	};
	__u64 length = PAGE, pa = 0;
	int rc, error;

	rc = get_pa(s->iommu, s->ioas, PAGE, &length, &pa);
	error = errno;
	expect_eq(ioctl(s->iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &runs), rc);
	if (rc)
		expect_eq(errno, error);
	else
		expect(pa && run.phys == pa && run.length == PAGE);
	return rc;
}

/* Another user, no capability, and none to be had */
static void drop_all(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {};

	expect_ok(setgroups(0, NULL));
	expect_ok(setgid(USER));
	expect_ok(setuid(USER));
	expect_ok(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	expect_ok(syscall(SYS_capset, &header, data));
}

static void may_not(void *arg)
{
	drop_all();
	expect_errno(translate(arg), EPERM);
}

static void may(void *arg)
{
	drop_all();
	expect_ok(translate(arg));
}

TEST(is_listed)
{
	struct noiommufd_get_info info = { .size = sizeof(info) };

	skip_on_mainline("it has no GRANT");
	expect_ok(ioctl(iommu_open(), NOIOMMUFD_GET_INFO, &info));
	expect(info.extensions & NOIOMMUFD_EXT_GRANT);
}

TEST(child)
{
	struct setup s;

	setup_page(&s);
	in_child(may_not, &s);
	expect_ok(grant_begin(s.iommu));
	in_child(may, &s);
	expect_ok(translate(&s));
	expect_ok(grant_end(s.iommu));
	in_child(may_not, &s);
	expect_ok(translate(&s));
	/* Each of them twice */
	expect_ok(grant_end(s.iommu));
	expect_ok(grant_begin(s.iommu));
	expect_ok(grant_begin(s.iommu));
	in_child(may, &s);
	expect_ok(grant_end(s.iommu));
	in_child(may_not, &s);
}

static void without_rawio(void *arg)
{
	const struct setup *s = arg;

	/* Still root, with all other capabilities */
	drop_cap(CAP_SYS_RAWIO);
	expect_errno(grant_begin(s->iommu), EPERM);
	expect_errno(translate(s), EPERM);
}

static void revoke_without_rawio(void *arg)
{
	const struct setup *s = arg;

	drop_cap(CAP_SYS_RAWIO);
	expect_errno(grant_end(s->iommu), EPERM);
	expect_errno(grant_begin(s->iommu), EPERM);
	expect_ok(translate(s));
}

TEST(needs_a_capability)
{
	struct setup s;

	setup_page(&s);
	in_child(without_rawio, &s);
	expect_ok(grant_begin(s.iommu));
	in_child(revoke_without_rawio, &s);
	in_child(may, &s);
}

static void in_namespace(void *arg)
{
	const struct setup *s = arg;

	if (unshare(CLONE_NEWUSER))
		test_skip("no user namespaces: %m");
	/* All capabilities, but in that namespace */
	expect_errno(grant_begin(s->iommu), EPERM);
	expect_errno(grant_end(s->iommu), EPERM);
	expect_errno(translate(s), EPERM);
}

static void granted_in_namespace(void *arg)
{
	const struct setup *s = arg;

	if (unshare(CLONE_NEWUSER))
		test_skip("no user namespaces: %m");
	expect_errno(grant_end(s->iommu), EPERM);
	expect_ok(translate(s));
}

TEST(user_namespace)
{
	struct setup s;

	setup_page(&s);
	in_child(in_namespace, &s);
	expect_ok(grant_begin(s.iommu));
	in_child(granted_in_namespace, &s);
}

struct receiver {
	int sockets[2];
	struct setup s;
};

static void receive(void *arg)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct receiver *r = arg;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};

	drop_all();
	close(r->sockets[0]);
	expect_eq(recvmsg(r->sockets[1], &message, MSG_CMSG_CLOEXEC), 1);
	memcpy(&r->s.iommu, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	expect_eq(read(r->sockets[1], &r->s.ioas, sizeof(r->s.ioas)), sizeof(r->s.ioas));
	expect_ok(translate(&r->s));
	/* Memory of its own as well */
	expect_ok(ioas_map(r->s.iommu, r->s.ioas, mem(PAGE), PAGE, 2 * PAGE));
	expect(pa_of(r->s.iommu, r->s.ioas, 2 * PAGE) != 0);
}

TEST(sent)
{
	char control[CMSG_SPACE(sizeof(int))] = {}, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	struct receiver r = {};
	struct setup s;
	pid_t pid;

	skip_on_mainline("it has no GRANT");
	expect_ok(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r.sockets));
	/* It begins before there is a context. */
	pid = spawn(receive, &r);
	setup_page(&s);
	expect_ok(grant_begin(s.iommu));
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &s.iommu, sizeof(int));
	expect_eq(sendmsg(r.sockets[0], &message, 0), 1);
	expect_eq(write(r.sockets[0], &s.ioas, sizeof(s.ioas)), sizeof(s.ioas));
	join(pid);
}

/* A grant is one context's. */
TEST(two_contexts)
{
	struct setup s, other = {};

	setup_page(&s);
	other.iommu = iommu_open();
	other.dev = cdev_open(edu_behind_bridge());
	expect_ok(dev_bind(other.dev, other.iommu, &other.devid));
	other.ioas = new_ioas(other.iommu);
	attach(other.dev, other.ioas);
	expect_ok(ioas_map(other.iommu, other.ioas, mem(PAGE), PAGE, PAGE));
	expect_ok(grant_begin(s.iommu));
	in_child(may, &s);
	in_child(may_not, &other);
	expect_ok(grant_begin(other.iommu));
	expect_ok(grant_end(s.iommu));
	in_child(may_not, &s);
	in_child(may, &other);
}

TEST(closed)
{
	struct setup s;
	int copy;

	setup_page(&s);
	expect_ok(grant_begin(s.iommu));
	/* It is the open file's, not the descriptor's. */
	copy = expect_ok(dup(s.iommu));
	close(s.iommu);
	expect_errno(grant_begin(s.iommu), EBADF);
	expect_errno(grant_end(s.iommu), EBADF);
	s.iommu = copy;
	in_child(may, &s);
	close(s.dev);
	close(s.iommu);
	/* Perhaps where the old one was in memory */
	setup_page(&s);
	in_child(may_not, &s);
}

static void ask_for_more(void *arg)
{
	struct iommu_option option = {
		.size = sizeof(option), .option_id = IOMMU_OPTION_RLIMIT_MODE,
		.op = IOMMU_OPTION_OP_SET, .val64 = 1,
	};
	const struct setup *s = arg;
	char path[128];

	cdev_path(edu(), path, sizeof(path));
	drop_cap(CAP_SYS_RAWIO);
	expect_errno(open(path, O_RDWR), EPERM);
	drop_cap(CAP_SYS_RESOURCE);
	drop_cap(CAP_IPC_LOCK);
	expect_errno(ioctl(s->iommu, IOMMU_OPTION, &option), EPERM);
	set_memlock(PAGE);
	expect_errno(ioas_map(s->iommu, s->ioas, mem(2 * PAGE), 2 * PAGE, GIB), ENOMEM);
	expect_ok(translate(s));
}

TEST(nothing_else)
{
	struct setup s;

	setup_page(&s);
	expect_ok(grant_begin(s.iommu));
	in_child(ask_for_more, &s);
}

static void ask_badly(void *arg)
{
	struct noiommufd_ioas_get_pa_runs runs = { .size = sizeof(runs) };
	struct iommu_ioas_noiommu_get_pa get = { .size = sizeof(get) };
	const struct setup *s = arg;

	drop_all();
	expect_errno(ioctl(s->iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get), EINVAL);
	expect_errno(ioctl(s->iommu, NOIOMMUFD_IOAS_GET_PA_RUNS, &runs), EINVAL);
	get.length = PAGE;
	expect_errno(ioctl(s->iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get), ENOENT);
	get.flags = 1;
	expect_errno(ioctl(s->iommu, IOMMU_IOAS_NOIOMMU_GET_PA, &get), EOPNOTSUPP);
}

TEST(bad_arguments)
{
	static const unsigned int both[] = { NOIOMMUFD_GRANT, NOIOMMUFD_REVOKE };
	struct {
		struct noiommufd_grant cmd;
		__u32 more;
	} big = {};
	struct setup s;
	unsigned int i, bit;

	setup_page(&s);
	for (i = 0; i < ARRAY_SIZE(both); i++) {
		struct noiommufd_grant cmd = { .size = 4 };

		expect_errno(ioctl(s.iommu, both[i], NULL), EFAULT);
		expect_errno(ioctl(s.iommu, both[i], &cmd), EINVAL);
		cmd.size = sizeof(cmd);
		for (bit = 0; bit < 32; bit++) {
			cmd.flags = 1U << bit;
			expect_errno(ioctl(s.iommu, both[i], &cmd), EOPNOTSUPP);
		}
		big.cmd.size = sizeof(big);
		big.more = 1;
		expect_errno(ioctl(s.iommu, both[i], &big), E2BIG);
	}
	in_child(may_not, &s);
	big.more = 0;
	expect_ok(ioctl(s.iommu, NOIOMMUFD_GRANT, &big));
	in_child(may, &s);
	in_child(ask_badly, &s);
}

static const char *info_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return path;
}

static void grant_and_end(void *arg)
{
	expect_ok(grant_begin(((struct setup *)arg)->iommu));
	expect_eq(read_field(info_of(((struct setup *)arg)->iommu), "granted-by"), getpid());
}

TEST(fdinfo)
{
	struct setup s;

	setup_page(&s);
	expect_eq(read_field(info_of(s.iommu), "granted-by"), -1);
	in_child(grant_and_end, &s);
	/* That process is gone, the grant is not. */
	expect(read_field(info_of(s.iommu), "granted-by") != -1);
	in_child(may, &s);
	expect_ok(grant_begin(s.iommu));
	expect_eq(read_field(info_of(s.iommu), "granted-by"), getpid());
	expect_ok(grant_end(s.iommu));
	expect_eq(read_field(info_of(s.iommu), "granted-by"), -1);
}

static const char *output_of(const char *command)
{
	static char output[8192];
	FILE *f = popen(command, "r");
	size_t n;

	expect(f);
	n = fread(output, 1, sizeof(output) - 1, f);
	output[n] = '\0';
	if (pclose(f))
		fail("%s failed: %s", command, output);
	return output;
}

#define expect_output(command, text) \
	do { \
		const char *output = output_of(command); \
		\
		if (!strstr(output, text)) \
			fail("expected \"%s\" of %s, got: %s", text, command, output); \
	} while (0)

TEST(status)
{
	struct setup s;
	char text[64];

	setup_page(&s);
	expect(!strstr(output_of("noiommuctl status"), "granted"));
	expect_ok(grant_begin(s.iommu));
	snprintf(text, sizeof(text), ", granted by %d grant\n", getpid());
	expect_output("noiommuctl status", text);
	snprintf(text, sizeof(text), ",\"granted_by\":%d,", getpid());
	expect_output("noiommuctl status --json", text);
	expect_ok(grant_end(s.iommu));
	expect(!strstr(output_of("noiommuctl status --json"), "granted"));
}

TEST(one_line_a_context)
{
	unsigned long long log;
	struct setup s;
	char line[64];
	int other;

	setup_page(&s);
	snprintf(line, sizeof(line), "grant[%d] granted physical addresses", getpid());
	log = kmsg_mark();
	expect_ok(grant_begin(s.iommu));
	expect_ok(grant_begin(s.iommu));
	expect_ok(grant_end(s.iommu));
	expect_ok(grant_begin(s.iommu));
	expect_eq(kmsg_count(log, KERN_NOTICE, line, NULL), 1);
	other = iommu_open();
	expect_eq(kmsg_count(log, KERN_NOTICE, line, NULL), 1);
	expect_ok(grant_begin(other));
	expect_eq(kmsg_count(log, KERN_NOTICE, line, NULL), 2);
}

/* A broker with the right, a worker without */
TEST(example)
{
	char command[64];

	skip_on_mainline("it has no GRANT");
	if (access("/proc/sys/kernel/seccomp/actions_avail", F_OK))
		test_skip("the kernel has no seccomp filters");
	driver_bind(edu());
	snprintf(command, sizeof(command), "/broker %s %d 2>&1", edu(), USER);
	expect_output(command, "user 1000, CapEff 0000000000000000, Seccomp 2\n"
		      "copied by DMA, without a right\n");
}

static bool done;

static void *change(void *arg)
{
	const struct setup *s = arg;

	while (!flag(&done)) {
		expect_ok(grant_begin(s->iommu));
		expect_ok(grant_end(s->iommu));
	}
	return NULL;
}

static void *read_info(void *arg)
{
	const struct setup *s = arg;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", s->iommu);
	while (!flag(&done))
		read_field(path, "granted-by");
	return NULL;
}

static void ask_always(void *arg)
{
	const struct setup *s = arg;
	unsigned int yes = 0, no = 0;
	double end = now() + 2;

	drop_all();
	while (now() < end) {
		__u64 length = PAGE, pa;

		if (!get_pa(s->iommu, s->ioas, PAGE, &length, &pa)) {
			yes++;
		} else {
			expect_eq(errno, EPERM);
			no++;
		}
	}
	expect(yes && no);
}

/* Many threads at once: for KASAN and lockdep */
TEST(together)
{
	pthread_t thread[4];
	struct setup s;
	unsigned int i;

	setup_page(&s);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		expect_eq(pthread_create(&thread[i], NULL, i < 2 ? change : read_info, &s), 0);
	in_child(ask_always, &s);
	set_flag(&done);
	for (i = 0; i < ARRAY_SIZE(thread); i++)
		pthread_join(thread[i], NULL);
	in_child(may_not, &s);
}
