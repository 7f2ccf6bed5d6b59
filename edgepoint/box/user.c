#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_GROUPS 64

/*
 * Whom the first process becomes: `user[:group]`, each a number or a name of the instance's own /etc/passwd and /etc/group, as an image's
 * config says it (OCI image specification, config.md, "User"). Called inside the root of the instance, whose links lead nowhere else.
 */
static int is_number(const char *text, unsigned long *number) {
  char *end;
  if (!*text) return 0;
  *number = strtoul(text, &end, 10);
  return !*end && *number < IDS_PER_INSTANCE;
}

/* Opened only where it is a plain file, for a pipe would wait for ever; NULL when there is none. */
static FILE *open_list(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISREG(status.st_mode) ? fopen(path, "re") : NULL;
}

struct found {
  uid_t uid;
  gid_t gid;
  char name[64];
};

static struct found find_user(const char *user) {
  unsigned long number = 0;
  int by_number = is_number(user, &number);
  struct found found = {.uid = (uid_t)number};
  int known = by_number;
  FILE *list = open_list("/etc/passwd");
  for (struct passwd *entry; list && (entry = fgetpwent(list));) {
    if (by_number ? entry->pw_uid != number : strcmp(entry->pw_name, user) != 0) continue;
    found.uid = entry->pw_uid;
    found.gid = entry->pw_gid;
    snprintf(found.name, sizeof found.name, "%s", entry->pw_name);
    setenv("HOME", entry->pw_dir && *entry->pw_dir ? entry->pw_dir : "/", 1);
    known = 1;
    break;
  }
  if (list) fclose(list);
  errno = 0;
  if (!known) fail("there is no user %s in its /etc/passwd", user);
  if (found.uid >= IDS_PER_INSTANCE || found.gid >= IDS_PER_INSTANCE) fail("the user %s has an id above %d", user, IDS_PER_INSTANCE - 1);
  return found;
}

/* The group of that name, and the groups that name the user as a member. */
static int find_groups(const char *user, const char *wanted, gid_t *gid, gid_t *groups) {
  unsigned long number = 0;
  int known = !wanted || is_number(wanted, &number), count = 0;
  if (wanted && known) *gid = (gid_t)number;
  FILE *list = open_list("/etc/group");
  for (struct group *entry; list && (entry = fgetgrent(list));) {
    if (entry->gr_gid >= IDS_PER_INSTANCE) continue;
    if (!known && !strcmp(entry->gr_name, wanted)) *gid = entry->gr_gid, known = 1;
    for (char **member = entry->gr_mem; *user && *member && count < MOST_GROUPS; member++)
      if (!strcmp(*member, user)) groups[count++] = entry->gr_gid;
  }
  if (list) fclose(list);
  errno = 0;
  if (!known) fail("there is no group %s in its /etc/group", wanted);
  return count;
}

/* Sets HOME too, which the variables of the order may set again. */
void find_identity(const char *text, struct identity *identity) {
  char user[256];
  if ((size_t)snprintf(user, sizeof user, "%s", text) >= sizeof user) fail("too long a user");
  char *colon = strchr(user, ':');
  if (colon) *colon = 0;
  struct found found = find_user(user);
  identity->uid = found.uid;
  identity->gid = found.gid;
  /* With a group named, a user has that one alone. */
  gid_t groups[MOST_GROUPS];
  int count = find_groups(found.name, colon ? colon + 1 : NULL, &identity->gid, groups);
  identity->group_count = colon ? 0 : count;
  identity->groups = calloc(MOST_GROUPS, sizeof *identity->groups);
  memcpy(identity->groups, groups, sizeof groups[0] * (size_t)count);
}

/* After the rights are dropped: what is left of them goes with uid 0 (capabilities(7)). */
void become_identity(const struct identity *identity) {
  if (setgroups((size_t)identity->group_count, identity->groups)) fail("setgroups");
  if (setresgid(identity->gid, identity->gid, identity->gid)) fail("become group %u", identity->gid);
  if (setresuid(identity->uid, identity->uid, identity->uid)) fail("become user %u", identity->uid);
}

/* A folder and those above it, for an image may name one that it does not hold. */
void enter_folder(const char *path) {
  char part[1024];
  if ((size_t)snprintf(part, sizeof part, "%s", path) >= sizeof part) fail("too long a working directory");
  for (char *slash = part + 1; *path && (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    if (mkdir(part, 0755) && errno != EEXIST) fail("make the working directory %s", path);
    *slash = '/';
  }
  if (mkdir(part, 0755) && errno != EEXIST) fail("make the working directory %s", path);
  if (chdir(path)) fail("the working directory %s", path);
}
