// SPDX-License-Identifier: GPL-2.0-only
/* mm: Introduce struct folio, Linux 5.16. */
#include <linux/mm.h>
#ifdef CONTROL
struct folio { int control; };
#else
size_t probe(struct page *page)
{
	return folio_size(page_folio(page));
}
#endif
