#define _GNU_SOURCE
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Files whose text is this instance's own (its name, its address), written before its first instruction: at a boot before the program,
 * at a restore before CRIU opens anything, so that every clone sees its own in the place of the template's.
 *
 * They are written through the overlay, for it copies the folders above with their owners and modes. What lies there may have been made
 * by the program itself, so no link is followed: one that leads out would lead through the machine's root.
 */
static int open_beneath(int root, const char *path, uint64_t flags, mode_t mode) {
  struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
  return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* The folder of a path relative to the root, made with those above it where they are missing. */
static int open_folder(const struct box *box, int root, const char *path) {
  int folder = open_beneath(root, ".", O_PATH | O_DIRECTORY, 0);
  if (folder < 0) fail("open the root");
  for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
    char name[256];
    size_t length = (size_t)(slash - path);
    errno = ENAMETOOLONG;
    if (length == 0 || length >= sizeof name) fail("a file's path");
    memcpy(name, path, length);
    name[length] = 0;
    if (mkdirat(folder, name, 0755) == 0 && fchownat(folder, name, box->first_uid, box->first_uid, AT_SYMLINK_NOFOLLOW)) fail("chown %s", name);
    int next = open_beneath(folder, name, O_PATH | O_DIRECTORY, 0);
    if (next < 0) fail("open the folder %s of a file of the manifest", name);
    close(folder);
    folder = next;
  }
  return folder;
}

/* A new empty file of the instance's root, open for writing. */
static int make_file_in(const struct box *box, int root, const char *path, mode_t mode) {
  const char *name = strrchr(path, '/') + 1;
  int folder = open_folder(box, root, path + 1);
  /* Another may stand there, also one that must not be opened (a pipe, a link): the template's, or what the program made of it. */
  if (unlinkat(folder, name, 0) && errno != ENOENT) fail("replace %s", path);
  int file = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (file < 0 || fchown(file, box->first_uid, box->first_uid) || fchmod(file, mode)) fail("make %s", path);
  close(folder);
  return file;
}

static void write_file(const struct box *box, int root, const char *path, const void *content, size_t length, mode_t mode) {
  int file = make_file_in(box, root, path, mode);
  if (write(file, content, length) != (ssize_t)length) fail("write %s", path);
  close(file);
}

/* A random number by which generators of random numbers notice that their state has been copied (edgepoint/guard). */
static void write_generation(const struct box *box, int root) {
  uint64_t generation;
  if (getrandom(&generation, sizeof generation, 0) != sizeof generation) fail("a generation");
  write_file(box, root, "/run/edgepoint/generation", &generation, sizeof generation, 0444);
}

static int open_overlay(const struct box *box) {
  char path[256];
  if ((size_t)snprintf(path, sizeof path, "%s/root", box->folder) >= sizeof path) fail("path too long: %s", box->folder);
  int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) fail("open %s", path);
  return root;
}

int make_file(const struct box *box, const char *path, mode_t mode) {
  int root = open_overlay(box);
  int file = make_file_in(box, root, path, mode);
  close(root);
  return file;
}

void write_files(const struct box *box) {
  char hosts[512];
  int root = open_overlay(box);
  /* `self` and the hostname lead to the instance's own address, in every clone to another. */
  snprintf(hosts, sizeof hosts, "127.0.0.1 localhost\n::1 localhost ip6-localhost\n%s self %.200s\n", box->address, box->hostname);
  write_file(box, root, "/etc/hosts", hosts, strlen(hosts), 0644);
  write_generation(box, root);
  for (int i = 0; i < box->file_count; i++) write_file(box, root, box->files[i].path, box->files[i].text, strlen(box->files[i].text), 0644);
  /* A program that is not root could not read them otherwise; nobody else is in its box. */
  for (int i = 0; i < box->secret_count; i++) {
    char path[256];
    if ((size_t)snprintf(path, sizeof path, "/run/secrets/%s", box->secrets[i].path) >= sizeof path) fail("a secret's name is too long");
    write_file(box, root, path, box->secrets[i].text, strlen(box->secrets[i].text), box->user ? 0444 : 0400);
  }
  close(root);
}
