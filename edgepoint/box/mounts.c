#define _GNU_SOURCE
#include "box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

static void path_in(char *out, size_t size, const char *folder, const char *name) {
  if ((size_t)snprintf(out, size, "%s/%s", folder, name) >= size) fail("path too long: %s/%s", folder, name);
}

static void make_folder(const char *path, mode_t mode) {
  if (mkdir(path, mode) && errno != EEXIST) fail("mkdir %s", path);
}

void write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) fail("open %s", path);
  if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) fail("write %s", path);
  close(fd);
}

/* A user namespace that exists only to carry an id mapping for mount_setattr(2). */
int user_namespace_with_maps(const char *maps) {
  int ready[2], done[2];
  if (pipe2(ready, O_CLOEXEC) || pipe2(done, O_CLOEXEC)) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    char byte = 0;
    close(done[1]);
    if (unshare(CLONE_NEWUSER)) _exit(1);
    if (write(ready[1], &byte, 1) != 1) _exit(1);
    if (read(done[0], &byte, 1) < 0) _exit(1);
    _exit(0);
  }
  close(ready[1]);
  close(done[0]);
  char byte, path[64];
  if (read(ready[0], &byte, 1) != 1) fail("user namespace for an id mapping");
  snprintf(path, sizeof path, "/proc/%d/uid_map", child);
  write_text(path, maps);
  snprintf(path, sizeof path, "/proc/%d/gid_map", child);
  write_text(path, maps);
  snprintf(path, sizeof path, "/proc/%d/ns/user", child);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open %s", path);
  close(ready[0]);
  close(done[1]);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
  }
  return fd;
}

/* The same files at `target`, with their owners seen through the mapping (mount_setattr(2), MOUNT_ATTR_IDMAP). */
static void mount_mapped(const char *source, const char *target, int mapping, uint64_t extra) {
  int tree = (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | O_CLOEXEC);
  if (tree < 0) fail("open_tree %s", source);
  struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | extra, .userns_fd = (uint64_t)mapping};
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr)) fail("id mapping of %s", source);
  if (syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH)) fail("move_mount %s", target);
  close(tree);
}

static void copy_tree(const char *from, const char *to) {
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    execlp("cp", "cp", "-a", "--no-target-directory", from, to, (char *)NULL);
    _exit(127);
  }
  int status;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status) fail("copying the private disk from %s", from);
}

/* mkdir -p of an absolute path below the private disk's upper layer, owned by the instance's root. */
static void make_mount_point(const struct box *box, const char *upper, const char *path) {
  char whole[512];
  path_in(whole, sizeof whole, upper, path + (path[0] == '/'));
  for (char *slash = whole + strlen(upper) + 1; *slash; slash++) {
    if (*slash != '/') continue;
    *slash = 0;
    if (mkdir(whole, 0755) == 0 && chown(whole, box->first_uid, box->first_uid)) fail("chown %s", whole);
    *slash = '/';
  }
  if (mkdir(whole, 0755) == 0 && chown(whole, box->first_uid, box->first_uid)) fail("chown %s", whole);
}

/*
 * The private disk is a tmpfs of the offering's size; the root is an overlay of it over the artefact over the base. Of an image, the artefact
 * is the whole root, and the base below it holds the clone guard, the resolver, and nothing else.
 * A clone of a template gets the template's disk as one more lower layer, so a wake copies nothing.
 */
void make_disk_and_root(const struct box *box) {
  char disk[256], root[256], upper[256], work[256], base[256], artefact[256], options[2048];
  path_in(disk, sizeof disk, box->folder, "private");
  path_in(root, sizeof root, box->folder, "root");
  /*
   * What an instance writes is for root and the log's reader alone; the folder above may be walked through because CRIU opens
   * the sources of external mounts as the instance's own uid.
   */
  make_folder(box->folder, 0711);
  make_folder(disk, 0750);
  make_folder(root, 0755);
  snprintf(options, sizeof options, "size=%llu,mode=0750,gid=%u,nr_inodes=65536", (unsigned long long)box->disk_bytes, box->reader_gid);
  if (mount("edgepoint-disk", disk, "tmpfs", MS_NODEV, options)) fail("mount the private disk at %s", disk);

  path_in(upper, sizeof upper, disk, "upper");
  path_in(work, sizeof work, disk, "work");
  path_in(base, sizeof base, disk, "base");
  path_in(artefact, sizeof artefact, disk, "artefact");
  if (box->disk_copy) copy_tree(box->disk_copy, upper);
  else make_folder(upper, 0755);
  make_folder(work, 0755);
  make_folder(base, 0755);
  make_folder(artefact, 0755);
  if (chown(upper, box->first_uid, box->first_uid)) fail("chown %s", upper);
  if (!box->disk_copy && !box->disk_layer) {
    char path[512];
    make_mount_point(box, upper, "/var/log");
    make_mount_point(box, upper, "/run/shm");
    path_in(path, sizeof path, upper, "run/shm");
    if (chmod(path, 01777)) fail("chmod %s", path);
    path_in(path, sizeof path, upper, "var/log/app.log");
    int log = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (log < 0 || fchown(log, box->first_uid, box->reader_gid) || fchmod(log, 0660)) fail("make %s", path);
    close(log);
    for (int i = 0; i < box->volume_count; i++) make_mount_point(box, upper, box->volumes[i].mount_path);
    /* An image may hold links of these names, which would lead a mount or a file out of the box: real folders hide them. */
    static const char *const real[] = {"/dev", "/proc", "/etc", "/run/edgepoint", "/run/secrets"};
    for (size_t i = 0; box->is_image && i < sizeof real / sizeof real[0]; i++) make_mount_point(box, upper, real[i]);
  }

  char maps[64];
  snprintf(maps, sizeof maps, "0 %u %d", box->first_uid, IDS_PER_INSTANCE);
  int mapping = user_namespace_with_maps(maps);
  mount_mapped(box->base, base, mapping, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
  close(mapping);
  snprintf(maps, sizeof maps, "%u %u %d", box->artefact_uid, box->first_uid, box->is_image ? IDS_PER_INSTANCE : 1);
  mapping = user_namespace_with_maps(maps);
  mount_mapped(box->artefact, artefact, mapping, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
  close(mapping);

  /* xino: without it a number names several files of several layers, and CRIU would set a watch (inotify) on another one, silently. */
  int length = snprintf(options, sizeof options, "lowerdir=%s%s%s:%s,upperdir=%s,workdir=%s,xino=on",
                        box->disk_layer ? box->disk_layer : "", box->disk_layer ? ":" : "", artefact, base, upper, work);
  if (length >= (int)sizeof options) fail("too long a path for an overlay");
  if (mount("edgepoint-root", root, "overlay", MS_NODEV, options)) fail("mount the root at %s (%s)", root, options);
  /* The overlay keeps layers of its own; the mapped mounts were only needed to name them. */
  if (umount2(base, MNT_DETACH) || umount2(artefact, MNT_DETACH)) fail("umount a layer");
}

/* The loop device that is bound to this very file already, held open; or -1. */
static int bound_loop_device(const struct stat *image, char *device, size_t size) {
  DIR *blocks = opendir("/sys/block");
  if (!blocks) fail("open /sys/block");
  int found = -1;
  for (struct dirent *entry; found < 0 && (entry = readdir(blocks));) {
    struct loop_info64 info;
    if (strncmp(entry->d_name, "loop", 4)) continue;
    snprintf(device, size, "/dev/%.32s", entry->d_name);
    int loop = open(device, O_RDWR | O_CLOEXEC);
    if (loop < 0) continue;
    if (ioctl(loop, LOOP_GET_STATUS64, &info) == 0 && info.lo_inode == image->st_ino && info.lo_device == image->st_dev) found = loop;
    else close(loop);
  }
  closedir(blocks);
  return found;
}

/* A new loop device over the image (loop(4), LOOP_CONFIGURE), freed by the kernel at the last umount. */
static int new_loop_device(const char *image, int backing, char *device, size_t size) {
  int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
  if (control < 0) fail("open /dev/loop-control");
  for (int attempt = 0; attempt < 64; attempt++) {
    int number = ioctl(control, LOOP_CTL_GET_FREE);
    if (number < 0) fail("a free loop device");
    snprintf(device, size, "/dev/loop%d", number);
    int loop = open(device, O_RDWR | O_CLOEXEC);
    if (loop < 0) fail("open %s", device);
    struct loop_config config = {.fd = (uint32_t)backing, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    snprintf((char *)config.info.lo_file_name, LO_NAME_SIZE, "%s", image);
    if (ioctl(loop, LOOP_CONFIGURE, &config) == 0) {
      close(control);
      return loop;
    }
    close(loop);
    if (errno != EBUSY) fail("loop device for %s", image);
  }
  fail("no loop device came free for %s", image);
}

/* Limits what the instance's cgroups may ask of a disk: blkio-controller.rst of version 1, cgroup-v2.rst. Absent where the kernel cannot. */
static void limit_operations(const struct box *box, int disk) {
  struct stat status;
  char path[600], limit[128];
  if (fstat(disk, &status)) fail("stat of a loop device");
  unsigned kind = major(status.st_rdev), number = minor(status.st_rdev);
  for (int i = 0; i < box->cgroup_count; i++) {
    static const char *const of_version_1[] = {"blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device"};
    for (int j = 0; j < 2; j++) {
      snprintf(path, sizeof path, "%s/%s", box->cgroups[i], of_version_1[j]);
      snprintf(limit, sizeof limit, "%u:%u %u", kind, number, box->operations_per_second);
      if (access(path, F_OK) == 0) write_text(path, limit);
    }
    snprintf(path, sizeof path, "%s/io.max", box->cgroups[i]);
    snprintf(limit, sizeof limit, "%u:%u riops=%u wiops=%u", kind, number, box->operations_per_second, box->operations_per_second);
    if (access(path, F_OK) == 0) write_text(path, limit);
  }
}

/*
 * Mounts the image at `target`. Two loop devices over one file would destroy its file system, so an image in use is mounted from
 * the device it has; the lock keeps two boxes from both finding none.
 */
static void mount_image(const struct box *box, const char *image, const char *target) {
  char device[64];
  struct stat status;
  int backing = open(image, O_RDWR | O_CLOEXEC);
  if (backing < 0 || fstat(backing, &status)) fail("open the volume %s", image);
  if (flock(backing, LOCK_EX)) fail("lock the volume %s", image);
  int loop = bound_loop_device(&status, device, sizeof device);
  if (loop < 0) loop = new_loop_device(image, backing, device, sizeof device);
  limit_operations(box, loop);
  if (mount(device, target, "ext4", MS_NODEV | MS_NOSUID, "")) fail("mount the volume %s", image);
  close(loop);
  /* The loop device keeps this very open file, and with it the lock, until the last umount. */
  if (flock(backing, LOCK_UN)) fail("unlock the volume %s", image);
  close(backing);
}

void attach_volumes(struct box *box) {
  if (box->volume_count == 0) return;
  char maps[64];
  snprintf(maps, sizeof maps, "0 %u %d", box->first_uid, IDS_PER_INSTANCE);
  int mapping = user_namespace_with_maps(maps);
  for (int i = 0; i < box->volume_count; i++) {
    struct volume *volume = &box->volumes[i];
    char plain[300];
    snprintf(volume->source, sizeof volume->source, "%s/v%d", box->folder, i);
    snprintf(plain, sizeof plain, "%s/plain%d", box->folder, i);
    make_folder(volume->source, 0755);
    make_folder(plain, 0755);
    mount_image(box, volume->image, plain);
    mount_mapped(plain, volume->source, mapping, 0);
    if (umount2(plain, MNT_DETACH)) fail("umount %s", plain);
    rmdir(plain);
  }
  close(mapping);
}

static void bind_at(const char *source, const char *root, const char *path, unsigned long flags) {
  char target[512];
  path_in(target, sizeof target, root, path);
  if (mount(source, target, NULL, MS_BIND, NULL)) fail("bind %s at %s", source, path);
  if (flags && mount(NULL, target, NULL, MS_BIND | MS_REMOUNT | flags, NULL)) fail("remount %s", path);
}

/* Makes the overlay the root of these namespaces and leaves the machine's behind (pivot_root(2), the "." "." form). */
void enter_root(const struct box *box) {
  char root[256], path[300];
  path_in(root, sizeof root, box->folder, "root");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) fail("private mounts");
  if (mount(root, root, NULL, MS_BIND | MS_REC, NULL)) fail("bind %s", root);
  bind_at(box->dev, root, "dev", MS_RDONLY | MS_NOSUID | MS_NOEXEC);
  for (int i = 0; i < box->volume_count; i++)
    bind_at(box->volumes[i].source, root, box->volumes[i].mount_path + 1, MS_NODEV | MS_NOSUID);
  path_in(path, sizeof path, root, "proc");
  if (mount("proc", path, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) fail("mount /proc");
  if (chdir(root)) fail("chdir %s", root);
  if (syscall(SYS_pivot_root, ".", ".")) fail("pivot_root");
  if (umount2(".", MNT_DETACH)) fail("leave the machine's root");
  if (chdir("/")) fail("chdir /");
}
