/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef UMBRA_NAMESPACES_H
#define UMBRA_NAMESPACES_H

#define NAMESPACES_ID 65534 /* user and group inside: nobody */
#define NAMESPACES_ALL (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID)

/*
 * Where the process is root: it becomes nobody, keeping capabilities for the next steps. 0; -1 with errno where it stays root
 * though it could do otherwise. Single-threaded callers only, as all of this file.
 */
int namespaces_give_up_root(void);

/* A user namespace with one user and one group in it. 0 or -1 with errno. */
int namespaces_user(void);

/* One more namespace, CLONE_NEW*. CLONE_NEWPID concerns the next child. 0 or -1 with errno. */
int namespaces_one(int flag);

/* In an own mount namespace: an empty, read-only root directory that holds nothing and leads nowhere. 0 or -1 with errno. */
int namespaces_empty_root(void);

#endif
