// SPDX-License-Identifier: GPL-2.0-only
/*
 * ports [DPDK's options] -- TEST: the first port sends packets, in bursts of 32,
 * and the second one receives them.
 *
 * burst	counts the instructions of one burst, and prints "tx MEDIAN" and
 *		"rx MEDIAN". With QEMU's "-icount shift=0" the time stamp counter
 *		advances by one per instruction.
 * interrupts	waits for a receive interrupt before it receives
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/types.h>

#include <rte_config.h>
/* DPDK's headers include one of libbsd's for it, which may not be there. */
#undef RTE_USE_LIBBSD
#include <rte_cycles.h>
#include <rte_debug.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

/* Rounds of a test, and how many may be tried until so many are good */
#define ROUNDS		1001
#define TRIES		(2 * ROUNDS)
#define WAKE_UPS	100
#define WAKE_UP_TRIES	110
#define BURST		32
#define DESCRIPTORS	256
#define MBUFS		2047
#define FRAME		60
/* Until the packets have arrived */
#define MILLISECONDS	2

#define expect(cond)							\
	do {								\
		if (!(cond))						\
			rte_exit(1, "line %d: expected %s\n",		\
				 __LINE__, #cond);			\
	} while (0)

static struct rte_mempool *pool;

static void start(__u16 port, bool interrupts)
{
	const struct rte_eth_conf conf = { .intr_conf.rxq = interrupts };
	struct rte_eth_link link;
	int tries = 100;

	expect(!rte_eth_dev_configure(port, 1, 1, &conf));
	expect(!rte_eth_rx_queue_setup(port, 0, DESCRIPTORS, 0, NULL, pool));
	expect(!rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, 0, NULL));
	expect(!rte_eth_dev_start(port));
	expect(!rte_eth_promiscuous_enable(port));
	do {
		rte_delay_us_sleep(100000);
		expect(!rte_eth_link_get_nowait(port, &link) && --tries);
	} while (!link.link_status);
}

static void stop(__u16 port)
{
	expect(!rte_eth_dev_stop(port));
	expect(!rte_eth_dev_close(port));
}

static void make_burst(struct rte_mbuf **packets)
{
	int i;

	expect(!rte_pktmbuf_alloc_bulk(pool, packets, BURST));
	for (i = 0; i < BURST; i++)
		memset(rte_pktmbuf_append(packets[i], FRAME), 0xff, FRAME);
}

/* Each returns the number of packets, and the instructions that it took. */
static __u16 send_burst(struct rte_mbuf **packets, __u64 *took)
{
	__u64 t = rte_rdtsc();
	__u16 n = rte_eth_tx_burst(0, 0, packets, BURST);

	*took = rte_rdtsc() - t;
	return n;
}

static __u16 receive_burst(struct rte_mbuf **packets, __u64 *took)
{
	__u64 t = rte_rdtsc();
	__u16 n = rte_eth_rx_burst(1, 0, packets, BURST);

	*took = rte_rdtsc() - t;
	return n;
}

static int compare(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void print_median(const char *name, __u64 *rounds)
{
	qsort(rounds, ROUNDS, sizeof(*rounds), compare);
	printf("%s %llu\n", name, rounds[ROUNDS / 2]);
}

/* Returns the number of packets that were sent; the others are freed. */
static __u16 send_new(__u64 *took)
{
	struct rte_mbuf *packets[BURST];
	__u16 sent;

	make_burst(packets);
	sent = send_burst(packets, took);
	rte_pktmbuf_free_bulk(packets + sent, BURST - sent);
	return sent;
}

static void count_instructions(void)
{
	static __u64 tx[ROUNDS], rx[ROUNDS];
	struct rte_mbuf *packets[BURST];
	int round = 0, tries = TRIES;
	__u16 sent, got, all;
	__u64 took;

	/* A round counts if all packets were sent, and received together. */
	while (round < ROUNDS) {
		expect(tries--);
		sent = send_new(&tx[round]);
		all = 0;
		do {
			rte_delay_us_sleep(MILLISECONDS * 1000);
			got = receive_burst(packets, all ? &took : &rx[round]);
			rte_pktmbuf_free_bulk(packets, got);
			all += got;
			if (got == BURST && sent == BURST)
				round++;
		} while (got && all < sent);
	}
	print_median("tx", tx);
	print_median("rx", rx);
}

/* Receives packets until there are none, and returns how many there were. */
static unsigned int receive_all(void)
{
	struct rte_mbuf *packets[BURST];
	unsigned int all = 0;
	__u16 got;
	__u64 took;

	do {
		rte_delay_us_sleep(MILLISECONDS * 1000);
		got = receive_burst(packets, &took);
		rte_pktmbuf_free_bulk(packets, got);
		all += got;
	} while (got);
	return all;
}

static int wait_for_interrupt(int milliseconds)
{
	struct rte_epoll_event event;

	return rte_epoll_wait(RTE_EPOLL_PER_THREAD, &event, 1, milliseconds);
}

static void wake_ups(void)
{
	int woken = 0, tries = WAKE_UP_TRIES;
	__u64 took;

	expect(!rte_eth_dev_rx_intr_ctl_q(1, 0, RTE_EPOLL_PER_THREAD,
					  RTE_INTR_EVENT_ADD, NULL));
	while (woken < WAKE_UPS) {
		/* An emulated device loses one now and then on a busy host. */
		expect(tries--);
		receive_all();
		wait_for_interrupt(0);
		expect(!rte_eth_dev_rx_intr_enable(1, 0));
		/* Packets bring it, and nothing else. */
		if (!woken)
			expect(wait_for_interrupt(200) == 0);
		expect(send_new(&took));
		if (wait_for_interrupt(2000) == 1) {
			expect(!rte_eth_dev_rx_intr_disable(1, 0));
			expect(receive_all());
			woken++;
		}
	}
	printf("%d interrupts, of %d\n", woken, WAKE_UP_TRIES - tries);
}

int main(int argc, char **argv)
{
	int options = rte_eal_init(argc, argv);
	bool waits;

	expect(options >= 0 && options + 1 < argc);
	waits = !strcmp(argv[options + 1], "interrupts");
	pool = rte_pktmbuf_pool_create("packets", MBUFS, 0, 0,
				       RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	expect(pool && rte_eth_dev_count_avail() == 2);
	start(1, waits);
	start(0, false);
	if (waits)
		wake_ups();
	else
		count_instructions();
	stop(0);
	stop(1);
	rte_eal_cleanup();
	return 0;
}
