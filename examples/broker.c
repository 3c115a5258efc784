// SPDX-License-Identifier: GPL-2.0-only
/*
 * A broker gives a device to a worker that has no right of its own: another user, no
 * capability, and a seccomp filter under which nothing can be opened. The worker has
 * QEMU's device for teaching (edu.c) copy memory by DMA.
 *
 *	modprobe noiommufd allow_grant=1
 *	gcc -O2 -Wall broker.c -lnoiommufd -o broker && ./broker 0000:00:04.0 65534
 */
#define _GNU_SOURCE
#include <err.h>
#include <grp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <libnoiommufd.h>

#define DMA_FROM	0x80
#define DMA_TO		0x88
#define DMA_LENGTH	0x90
#define DMA_COMMAND	0x98	/* 1: start, 2: to memory */
#define BUFFER		0x40000	/* of 4096 bytes, in the device */
#define MAX_FILES	8

#ifdef __aarch64__
#define ARCH	AUDIT_ARCH_AARCH64
#else
#define ARCH	AUDIT_ARCH_X86_64
#endif

/* What a driver needs once it has its files: no open(), no socket, no other program */
static const unsigned int allowed[] = {
	SYS_ioctl, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk,
	SYS_read, SYS_write, SYS_pread64, SYS_pwrite64, SYS_close, SYS_lseek, SYS_fstat,
	SYS_newfstatat, SYS_ppoll, SYS_eventfd2, SYS_futex, SYS_clock_gettime,
	SYS_clock_nanosleep, SYS_getrandom, SYS_getuid, SYS_rt_sigreturn, SYS_exit_group,
#ifdef SYS_poll
	SYS_poll,
#endif
};

#define NR_ALLOWED	(sizeof(allowed) / sizeof(*allowed))

static void drop_rights(uid_t user)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };

	if (setgroups(0, NULL) || setresgid(user, user, user) || setresuid(user, user, user) ||
	    syscall(SYS_capset, &header, none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err(1, "Cannot give rights up");
}

static void filter_calls(void)
{
	const struct sock_filter load_arch =
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	const struct sock_filter load_nr =
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	const struct sock_filter kill = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_filter filter[2 * NR_ALLOWED + 5] = {
		load_arch, BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0), kill, load_nr,
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };
	struct sock_filter *next = filter + 4;
	size_t i;

	for (i = 0; i < NR_ALLOWED; i++) {
		*next++ = (struct sock_filter)
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
		*next++ = allow;
	}
	*next = kill;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		err(1, "Cannot filter system calls");
}

/* What the kernel says about this process; the file was opened before the filter. */
static void print_rights(FILE *status)
{
	char line[256], caps[32] = "?", mode[16] = "?";

	while (fgets(line, sizeof(line), status)) {
		if (sscanf(line, "CapEff: %31s", caps) != 1 &&
		    sscanf(line, "Seccomp: %15s", mode) == 1)
			break;
	}
	printf("user %d, CapEff %s, Seccomp %s\n", getuid(), caps, mode);
}

/* A file with its name; returns 0 at the end. */
static int transfer(int socket, struct noiommufd_file *file, int send)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { file->name, sizeof(file->name) };
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	ssize_t n;

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &file->fd, sizeof(int));
	n = send ? sendmsg(socket, &message, MSG_NOSIGNAL) :
		   recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (n < 0)
		err(1, "Cannot pass a file on");
	if (n && !send)
		memcpy(&file->fd, CMSG_DATA(header), sizeof(int));
	return n > 0;
}

static void copy(char *bar, __u64 from, __u64 to, __u64 command)
{
	noiommufd_write64(bar + DMA_FROM, from);
	noiommufd_write64(bar + DMA_TO, to);
	noiommufd_write64(bar + DMA_LENGTH, 64);
	noiommufd_write64(bar + DMA_COMMAND, command);
	while (noiommufd_read64(bar + DMA_COMMAND) & 1)
		usleep(1000);
}

static int work(int socket, uid_t user)
{
	struct noiommufd_file files[MAX_FILES];
	struct noiommufd_device *dev;
	struct noiommufd_dma *mem;
	unsigned int num = 0;
	char *bar, *text;
	FILE *status;

	drop_rights(user);
	while (num < MAX_FILES && transfer(socket, &files[num], 0))
		num++;
	if (!num)
		return 1;	/* The broker said why. */
	dev = noiommufd_resume(files, num);
	while (num)
		close(files[--num].fd);
	status = fopen("/proc/self/status", "re");
	if (!dev || !status)
		return 1;
	filter_calls();

	bar = noiommufd_bar(dev, NOIOMMUFD_BAR0);
	mem = noiommufd_alloc(noiommufd_device_ioas(dev), 4096, NULL);
	if (!bar || !mem || noiommufd_bus_master(dev, true))
		return 1;
	print_rights(status);
	text = noiommufd_va(mem);
	snprintf(text, 64, "copied by DMA, without a right");
	copy(bar, noiommufd_pa(mem, text), BUFFER, 1);
	copy(bar, BUFFER, noiommufd_pa(mem, text + 64), 1 | 2);
	puts(text + 64);
	noiommufd_close(dev);	/* bus mastering off, reset */
	return 0;
}

/* Have the right used once: the broker keeps nothing of the device. */
static int give(int socket, const char *name)
{
	struct noiommufd_device *dev = noiommufd_open(name, NULL);
	struct noiommufd_file files[MAX_FILES];
	int num, i;

	if (!dev || noiommufd_grant(noiommufd_device_ioas(dev)))
		return -1;
	num = noiommufd_save(dev, files, MAX_FILES);
	for (i = 0; i < num; i++)
		transfer(socket, &files[i], 1);
	noiommufd_close(dev);
	return num < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
	int sockets[2], status, rc;
	pid_t worker;

	if (argc != 3 || atoi(argv[2]) <= 0)
		errx(1, "usage: %s DEVICE UID", argv[0]);
	noiommufd_set_log(noiommufd_print, stderr);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		err(1, "socketpair");
	/* Before anything is open that it should not have */
	worker = fork();
	if (worker < 0)
		err(1, "fork");
	if (!worker) {
		close(sockets[0]);
		exit(work(sockets[1], atoi(argv[2])));
	}
	close(sockets[1]);
	rc = give(sockets[0], argv[1]);
	close(sockets[0]);	/* It begins when the broker has let go. */
	if (waitpid(worker, &status, 0) != worker)
		err(1, "waitpid");
	if (WIFSIGNALED(status))
		errx(1, "The worker was killed by signal %d.", WTERMSIG(status));
	return rc || status;
}
