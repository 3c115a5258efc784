// SPDX-License-Identifier: GPL-2.0-only
/*
 * GRANT and REVOKE: whoever has the iommufd may translate, without a
 * capability. noiommufd_may_translate() asks for both.
 */
#define pr_fmt(fmt) "noiommufd: " fmt

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/sched.h>
#include <linux/security.h>
#include <linux/seq_file.h>

#include "iommufd_private.h"

static bool noiommufd_allow_grant;
module_param_named(allow_grant, noiommufd_allow_grant, bool, 0444);
MODULE_PARM_DESC(allow_grant, "Let a program with CAP_SYS_RAWIO grant physical addresses to all who have its iommufd (default: off)");

/**
 * noiommufd_grant_allowed() - Does the parameter allow GRANT?
 *
 * Return: whether it does.
 */
bool noiommufd_grant_allowed(void)
{
	return noiommufd_allow_grant;
}

static int noiommufd_grant_check(const struct noiommufd_grant *cmd)
{
	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	if (cmd->flags)
		return -EOPNOTSUPP;
	if (noiommufd_allow_grant)
		return 0;
	pr_notice_ratelimited("%s[%d]: no GRANT without the parameter allow_grant: put \"options noiommufd allow_grant=1\" into /etc/modprobe.d, and load the module again\n",
			      current->comm, task_pid_nr(current));
	return -EOPNOTSUPP;
}

int noiommufd_grant(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_ctx *ictx = ucmd->ictx;
	struct noiommufd_opener granter, before;
	int rc;

	rc = noiommufd_grant_check(ucmd->cmd);
	if (rc)
		return rc;
	rc = security_locked_down(LOCKDOWN_PCI_ACCESS);
	if (rc)
		return rc;

	noiommufd_opener_get(&granter);
	xa_lock(&ictx->objects);
	before = ictx->granter;
	ictx->granter = granter;
	WRITE_ONCE(ictx->granted, true);
	xa_unlock(&ictx->objects);
	if (!before.pid)
		pr_notice("%s[%d] granted physical addresses to all who have its iommufd (context %u)\n",
			  current->comm, task_pid_nr(current), ictx->number);
	noiommufd_opener_put(&before);
	return 0;
}

/* A GET_PA that another thread has begun may still be answered. */
int noiommufd_revoke(struct noiommufd_ucmd *ucmd)
{
	struct noiommufd_ctx *ictx = ucmd->ictx;
	int rc;

	rc = noiommufd_grant_check(ucmd->cmd);
	if (rc)
		return rc;
	xa_lock(&ictx->objects);
	WRITE_ONCE(ictx->granted, false);
	xa_unlock(&ictx->objects);
	return 0;
}

/**
 * noiommufd_grant_show() - Show who granted, if a grant is in force.
 * @m: where to
 * @ictx: context, which the caller keeps in memory
 */
void noiommufd_grant_show(struct seq_file *m, struct noiommufd_ctx *ictx)
{
	xa_lock(&ictx->objects);
	if (ictx->granted)
		noiommufd_opener_show(m, "granted-by:\t", &ictx->granter);
	xa_unlock(&ictx->objects);
}
