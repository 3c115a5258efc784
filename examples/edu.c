// SPDX-License-Identifier: GPL-2.0-only
/*
 * A driver of QEMU's device for teaching (-device edu). It has the device compute
 * 10! and copy memory by DMA, and waits for the interrupts that say so.
 *
 *	gcc -O2 -Wall edu.c -lnoiommufd -o edu
 *	./edu 0000:00:04.0
 */
#include <stdio.h>

#include <libnoiommufd.h>

/* Registers; docs/specs/edu in QEMU's source has them all. */
#define FACTORIAL	0x08
#define STATUS		0x20	/* bit 0: computing, bit 7: raise an interrupt */
#define IRQ_STATUS	0x24
#define IRQ_ACK		0x64
#define DMA_FROM	0x80
#define DMA_TO		0x88
#define DMA_LENGTH	0x90
#define DMA_COMMAND	0x98	/* bit 0: start, bit 1: to memory, bit 2: interrupt */
#define BUFFER		0x40000	/* of 4096 bytes, in the device */

/* Wait for the device, at most ten seconds. */
static bool done(struct noiommufd_device *dev, char *bar)
{
	if (noiommufd_irq_wait(dev, 0, 10000) <= 0) {
		fprintf(stderr, "The device sent no interrupt.\n");
		return false;
	}
	noiommufd_write32(bar + IRQ_ACK, noiommufd_read32(bar + IRQ_STATUS));
	return true;
}

static bool dma(struct noiommufd_device *dev, char *bar, __u64 from, __u64 to,
		__u32 command)
{
	noiommufd_write64(bar + DMA_FROM, from);
	noiommufd_write64(bar + DMA_TO, to);
	noiommufd_write64(bar + DMA_LENGTH, 64);
	noiommufd_write64(bar + DMA_COMMAND, command);
	return done(dev, bar);
}

static bool work(struct noiommufd_device *dev)
{
	struct noiommufd_dma *mem = noiommufd_alloc(noiommufd_device_ioas(dev), 4096, NULL);
	char *bar = noiommufd_bar(dev, NOIOMMUFD_BAR0), *text;

	if (!mem || !bar || noiommufd_bus_master(dev, true) ||
	    noiommufd_irq_enable(dev, NOIOMMUFD_MSI, 1))
		return false;

	noiommufd_write32(bar + STATUS, 0x80);
	noiommufd_write32(bar + FACTORIAL, 10);
	if (!done(dev, bar))
		return false;
	printf("10! is %u\n", noiommufd_read32(bar + FACTORIAL));

	/* From memory to the device, and from there to other memory */
	text = noiommufd_va(mem);
	snprintf(text, 64, "copied by DMA");
	if (!dma(dev, bar, noiommufd_pa(mem, text), BUFFER, 1 | 4) ||
	    !dma(dev, bar, BUFFER, noiommufd_pa(mem, text + 64), 1 | 2 | 4))
		return false;
	printf("%s\n", text + 64);
	return true;
}

/* Its memory goes with the program. */
int main(int argc, char **argv)
{
	struct noiommufd_device *dev;
	bool worked;

	noiommufd_set_log(noiommufd_print, stderr);
	dev = noiommufd_open(argc > 1 ? argv[1] : NULL, NULL);
	if (!dev)
		return 1;
	worked = work(dev);
	noiommufd_close(dev);
	return worked ? 0 : 1;
}
