/* The box of an instance: what it lives in, made the same way for a boot and for a restore. See README in docs/ARCHITECTURE.md, "The box". */
#ifndef EDGEPOINT_BOX_H
#define EDGEPOINT_BOX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOST_CGROUPS 8
#define MOST_VOLUMES 8
#define MOST_ENVIRONMENT 512
#define MOST_FILES 16
#define MOST_SECRETS 128
#define MOST_PROCESSES 9
/* Where the first process of an instance with several lies, as the instance sees it. */
#define INIT_PATH "/run/edgepoint/init"
/* Descriptors that requests to CRIU name: criu-request.ts */
#define IMAGES_DESCRIPTOR 50
#define WORK_DESCRIPTOR 51
#define MOST_ORDER_BYTES (4u << 20)
#define IDS_PER_INSTANCE 65536
/* Of what unpacks an image: the longest file it may write, and its processor time */
#define UNPACKED_FILE_BYTES (4ull << 30)
#define UNPACK_SECONDS 600
/* Of processor time: the least that kernel/sched/syscalls.c lets one ask for */
#define SHORTEST_SLICE_NS 100000
/* Of a link's limit before there is an order, and the least a limit lets pass at once: ip-link(8), gso_max_size */
#define FIRST_BYTES_PER_SECOND 125000000
#define MOST_PACKET (512u << 10)

struct volume {
  const char *image;      /* ext4 image file */
  const char *mount_path; /* where the instance sees it */
  char source[256];       /* where the machine mounts it */
};

struct file {
  const char *path; /* absolute, as the instance sees it */
  const char *text;
};

/* A process of an instance that has several, as words: init.c */
struct process_words {
  char **words;
  int count;
};

struct box {
  const char *folder;    /* the instance's run folder: private/ root/ v0/ ... are made in it */
  const char *base;      /* base root filesystem, owned by uid 0 */
  const char *artefact;  /* folder that holds app/, owned by artefact_uid; or the root of an image, with all its ids from artefact_uid on */
  uid_t artefact_uid;
  int is_image;
  const char *working_directory; /* /app when NULL */
  const char *user;      /* whom the program runs as (user.c); root when NULL */
  const char *disk_layer; /* the private disk of a template: a lower layer of its clones; or NULL */
  const char *disk_copy;  /* the private disk of a kept instance: copied into the upper layer; or NULL */
  const char *dev;       /* minimal /dev, shared read-only */
  const char *netns;     /* network namespace file of the slot */
  int downlink_index;    /* of the edgepoint's end of the slot's link */
  uint64_t bytes_per_second; /* of the network, each way */
  unsigned operations_per_second; /* of each volume's disk, reads and writes */
  int own_network;       /* the instance has a network namespace that belongs to its user namespace: CRIU restores connections only there */
  const char *address;   /* dotted IPv4 */
  int prefix_length;
  const char *gateway;
  const char *ipv6_address; /* or NULL */
  int ipv6_prefix_length;
  const char *ipv6_gateway;
  const char *hostname;
  const char *cgroups[MOST_CGROUPS];
  int cgroup_count;
  struct volume volumes[MOST_VOLUMES];
  int volume_count;
  struct file files[MOST_FILES]; /* written afresh at each boot and restore */
  int file_count;
  struct file secrets[MOST_SECRETS]; /* path: the name in /run/secrets; written as files are */
  int secret_count;
  struct process_words processes[MOST_PROCESSES]; /* of a boot: beside the first */
  int process_count;
  int terminal_rows;     /* of a session (enter.c): it has a terminal of this size; 0: pipes */
  int terminal_columns;
  uid_t first_uid;       /* what uid 0 inside is outside */
  gid_t reader_gid;      /* the group that may read the log */
  uint64_t disk_bytes;
  const char *images;    /* of a restore: CRIU's images, and where its log goes */
  const char *work;
  const char *fill;      /* of a lazy restore: the file that tells how the memory got there (pages-guard.c); or NULL */
  const char *first_pages; /* and the snapshot's file of first pages (pages.c) */
  const char *environment[MOST_ENVIRONMENT + 1];
  int environment_count;
};

/* Every failure ends the program: one line "what: why" on stderr, exit status 1. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *what, ...);

uint64_t now_ns(void);

/* box.c */
char **read_order(void);
char **read_options(char **argument, struct box *box);
void enter_cgroups(const struct box *box);
void become_whom_it_runs_as(const struct box *box);
void shorten_slice(void);

/* enter.c, and session.c: the way of its bytes */
struct session {
  int connection;
  int in, out, errors; /* of the command; `errors` -1 and the other two the same with a terminal */
  pid_t pid;
  int is_terminal;
};
int enter(char **options);
void send_record(int connection, int kind, const void *payload, size_t length); /* blocking */
void relay(struct session *session);
void linger(int connection);

/* mounts.c */
void make_disk_and_root(const struct box *box);
void attach_volumes(struct box *box);
void enter_root(const struct box *box); /* in the instance's own namespaces */
int user_namespace_with_maps(const char *maps);
void write_text(const char *path, const char *text);

/* files.c */
void write_files(const struct box *box);
int make_file(const struct box *box, const char *path, mode_t mode); /* open for writing; in the place of what was there */

/* user.c */
struct identity {
  uid_t uid;
  gid_t gid;
  gid_t *groups;
  int group_count;
};
void find_identity(const char *text, struct identity *identity);
void become_identity(const struct identity *identity);
void enter_folder(const char *path);

/* unpack.c */
int unpack(char **words, int count);

/* init.c */
int run_processes(char **words, int count); /* as the first process of an instance; its exit status */
int read_processes(char **words, int count, struct process_words *found, int most);
int hold_instance(void);
void copy_init(const struct box *box);

/* network.c */
int open_downlink(struct box *box, const char *link);
void limit_downlink(const struct box *box, int fd);
void configure_network(const struct box *box); /* in the instance's network namespace */
void give_network(const struct box *box, pid_t pid);
void follow_restore(const struct box *box, const char *step, pid_t pid); /* CRIU's notifications, for a network of its own */

/* criu.c */
int start_criu(const char *program);
int restore_by_criu(struct box *box, int worker, int guard, const char *request);

/* A field of a protobuf message. */
struct field {
  unsigned number;
  uint64_t value;            /* of a number */
  const unsigned char *text; /* of a string or message, `value` bytes long */
};
int next_field(const unsigned char **at, const unsigned char *end, struct field *field);

/* pages-guard.c: memory that comes after the restore */
int start_pages_guard(void);
void order_pages(const struct box *box, int guard);
void wait_for_criu(int worker, int guard);
void tell_pages(int guard, pid_t instance);

/* filter.c */
void drop_rights(void); /* capabilities, no_new_privs, seccomp */

/* watch.c */
int watch_processes(void);

/* pager.c */
int pager(char **options);

/* gate.c */
int gate(char **options);

/* page-out.c */
int page_out(const char *cgroup, const char *keep);
int resident(const char *cgroup);

#endif
