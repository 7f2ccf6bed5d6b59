#define _GNU_SOURCE
#include "box.h"
#include "gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * Holds the first packets for the own addresses of apps that sleep, until somebody says where they go (decision 145).
 *
 * The kernel queues such a packet (nfnetlink_queue) with the app's number as its mark, and tells of it; the packet itself stays in the
 * kernel, so nothing that strangers wrote is read here. Let go, it takes its way on through the address translation, which by then
 * knows the instance: sender and receiver are those of the packet, for TCP and UDP alike.
 *
 * On stdin, a line each: `go APP`, `drop APP`, `flows MARK MASK`, `forget MARK`. On stdout: `held APP` when the first packet of an app is
 * held, `none APP` when its last one has been dropped for its age, and what flows.c says. Ends with its stdin; what is held is then dropped.
 */
#define APP_MASK 0x00ffffffu
#define MOST_HELD 8192
#define MOST_HELD_OF_APP 256
#define BUCKETS 1024
#define NOBODY 65534
#define NS_PER_MS 1000000ull
#define LOOK_MS 250

struct held {
  uint32_t app;
  uint32_t id; /* the kernel's */
  uint64_t since_ns;
  int next; /* of the same bucket, older first; or of the free ones; -1: none */
};

static struct held pool[MOST_HELD];
static int first[BUCKETS], last[BUCKETS], unused, held_count;
static uint64_t most_age_ns;

void begin_message(struct message *message, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource) {
  memset(message, 0, sizeof *message);
  message->header.nlmsg_len = NLMSG_LENGTH(sizeof message->general);
  message->header.nlmsg_type = type;
  message->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
  message->general.nfgen_family = family;
  message->general.version = NFNETLINK_V0;
  message->general.res_id = htons(resource);
}

void add_data(struct message *message, uint16_t type, const void *data, size_t length) {
  struct nlattr attribute = {.nla_len = (uint16_t)(NLA_HDRLEN + length), .nla_type = type};
  unsigned char *at = (unsigned char *)message + NLMSG_ALIGN(message->header.nlmsg_len);
  memcpy(at, &attribute, sizeof attribute);
  memcpy(at + NLA_HDRLEN, data, length);
  message->header.nlmsg_len = NLMSG_ALIGN(message->header.nlmsg_len) + (uint32_t)NLA_ALIGN(attribute.nla_len);
}

void add_number(struct message *message, uint16_t type, uint32_t number) {
  uint32_t wire = htonl(number);
  add_data(message, type, &wire, sizeof wire);
}

void send_message(int fd, const struct message *message, const char *what) {
  while (send(fd, message, message->header.nlmsg_len, 0) < 0)
    if (errno != EINTR && errno != ENOBUFS) fail("%s", what);
}

int acknowledged(int fd, const char *what) {
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[1024];
  } answer;
  ssize_t length;
  do length = recv(fd, &answer, sizeof answer, 0);
  while (length < 0 && errno == EINTR);
  if (length < (ssize_t)NLMSG_LENGTH(sizeof(int)) || answer.header.nlmsg_type != NLMSG_ERROR) fail("%s: no answer", what);
  return answer.error.error;
}

int next_attribute(const unsigned char **at, const unsigned char *end, struct attribute *attribute) {
  struct nlattr header;
  if (end - *at < NLA_HDRLEN) return 0;
  memcpy(&header, *at, sizeof header);
  if (header.nla_len < NLA_HDRLEN || header.nla_len > end - *at) return 0;
  *attribute = (struct attribute){.type = header.nla_type & NLA_TYPE_MASK, .data = *at + NLA_HDRLEN, .length = header.nla_len - NLA_HDRLEN};
  size_t step = NLA_ALIGN(header.nla_len);
  *at = step > (size_t)(end - *at) ? end : *at + step;
  return 1;
}

uint32_t number_of(const struct attribute *attribute) {
  uint32_t wire = 0;
  if (attribute->length >= sizeof wire) memcpy(&wire, attribute->data, sizeof wire);
  return ntohl(wire);
}

int open_netfilter(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), yes = 1;
  if (fd < 0) fail("netlink socket");
  if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &yes, sizeof yes)) fail("netlink option");
  return fd;
}

static int open_queue(uint16_t queue) {
  int fd = open_netfilter(), bytes = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  uint16_t config = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_CONFIG;
  struct message message;
  begin_message(&message, config, NLM_F_ACK, AF_UNSPEC, queue);
  struct nfqnl_msg_config_cmd bind_it = {.command = NFQNL_CFG_CMD_BIND};
  add_data(&message, NFQA_CFG_CMD, &bind_it, sizeof bind_it);
  struct nfqnl_msg_config_params params = {.copy_range = 0, .copy_mode = NFQNL_COPY_META};
  add_data(&message, NFQA_CFG_PARAMS, &params, sizeof params);
  add_number(&message, NFQA_CFG_QUEUE_MAXLEN, 2 * MOST_HELD);
  send_message(fd, &message, "bind the queue");
  int error = acknowledged(fd, "bind the queue");
  if (error) {
    errno = -error;
    fail("bind the queue %u", queue);
  }
  return fd;
}

/* Nobody, but for the right to speak of the packets of this network namespace. */
static void keep_network_right(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {{.effective = 1u << CAP_NET_ADMIN, .permitted = 1u << CAP_NET_ADMIN}};
  for (int capability = 0; capability <= CAP_LAST_CAP; capability++) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY)) fail("become nobody");
  if (syscall(SYS_capset, &header, data)) fail("drop capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
}

static void judge(int fd, uint16_t queue, uint32_t id, uint32_t verdict) {
  struct message message;
  begin_message(&message, (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_VERDICT, 0, AF_UNSPEC, queue);
  struct nfqnl_msg_verdict_hdr header = {.verdict = htonl(verdict), .id = htonl(id)};
  add_data(&message, NFQA_VERDICT_HDR, &header, sizeof header);
  add_number(&message, NFQA_MARK, 0);
  send_message(fd, &message, "verdict");
}

static int held_of(uint32_t app) {
  int count = 0;
  for (int at = first[app % BUCKETS]; at >= 0; at = pool[at].next) count += pool[at].app == app;
  return count;
}

static void hold(int fd, uint16_t queue, uint32_t app, uint32_t id) {
  int before = held_of(app), bucket = (int)(app % BUCKETS);
  if (unused < 0 || before >= MOST_HELD_OF_APP) return judge(fd, queue, id, NF_DROP);
  int at = unused;
  unused = pool[at].next;
  pool[at] = (struct held){.app = app, .id = id, .since_ns = now_ns(), .next = -1};
  if (first[bucket] < 0) first[bucket] = at;
  else pool[last[bucket]].next = at;
  last[bucket] = at;
  held_count++;
  if (before == 0) printf("held %u\n", app);
}

/* Lets go of those of `app` that are held since `since_ns` or longer, oldest first; how many. */
static int release(int fd, uint16_t queue, uint32_t app, uint64_t since_ns, uint32_t verdict) {
  int bucket = (int)(app % BUCKETS), *link = &first[bucket], before = -1, count = 0;
  while (*link >= 0) {
    int at = *link;
    if (pool[at].app != app || pool[at].since_ns > since_ns) {
      before = at;
      link = &pool[at].next;
      continue;
    }
    judge(fd, queue, pool[at].id, verdict);
    *link = pool[at].next;
    if (last[bucket] == at) last[bucket] = before;
    pool[at].next = unused;
    unused = at;
    held_count--;
    count++;
  }
  return count;
}

static void drop_old(int fd, uint16_t queue) {
  uint64_t now = now_ns();
  if (held_count == 0 || now < most_age_ns) return;
  for (int bucket = 0; bucket < BUCKETS; bucket++) {
    /* The first of a bucket is its oldest. */
    while (first[bucket] >= 0 && pool[first[bucket]].since_ns <= now - most_age_ns) {
      uint32_t app = pool[first[bucket]].app;
      release(fd, queue, app, now - most_age_ns, NF_DROP);
      if (held_of(app) == 0) printf("none %u\n", app);
    }
  }
}

static void take_packets(int fd, uint16_t queue) {
  static unsigned char buffer[1 << 16] __attribute__((aligned(8)));
  ssize_t length = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  for (struct nlmsghdr *header = (struct nlmsghdr *)buffer; length > 0 && NLMSG_OK(header, (size_t)length); header = NLMSG_NEXT(header, length)) {
    if (header->nlmsg_type != ((NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET)) continue;
    const unsigned char *at = (unsigned char *)header + NLMSG_LENGTH(sizeof(struct nfgenmsg)), *end = (unsigned char *)header + header->nlmsg_len;
    uint32_t id = 0, mark = 0;
    for (struct attribute attribute; next_attribute(&at, end, &attribute);) {
      if (attribute.type == NFQA_PACKET_HDR) id = number_of(&attribute); /* its first field */
      if (attribute.type == NFQA_MARK) mark = number_of(&attribute);
    }
    hold(fd, queue, mark & APP_MASK, id);
  }
}

static void obey(const char *line, int fd, uint16_t queue, int flows) {
  unsigned one, other;
  if (sscanf(line, "go %u", &one) == 1) release(fd, queue, one, UINT64_MAX, NF_ACCEPT);
  else if (sscanf(line, "drop %u", &one) == 1) release(fd, queue, one, UINT64_MAX, NF_DROP);
  else if (sscanf(line, "flows %u %u", &one, &other) == 2) tell_flows(flows, one, other);
  else if (sscanf(line, "forget %u", &one) == 1) forget_flows(flows, one);
}

int gate(char **options) {
  if (!options[0] || !options[1]) fail("usage: edgepoint-box gate QUEUE HOLD_MS");
  uint16_t queue = (uint16_t)atoi(options[0]);
  most_age_ns = (uint64_t)atoll(options[1]) * NS_PER_MS;
  for (int bucket = 0; bucket < BUCKETS; bucket++) first[bucket] = last[bucket] = -1;
  for (int at = 0; at < MOST_HELD; at++) pool[at].next = at + 1 < MOST_HELD ? at + 1 : -1;
  int fd = open_queue(queue), flows = open_netfilter();
  keep_network_right();
  setvbuf(stdout, NULL, _IOFBF, 1 << 16);
  printf("ready\n");
  fflush(stdout);
  static char line[4096];
  size_t have = 0;
  for (;;) {
    struct pollfd waits[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    if (poll(waits, 2, held_count > 0 ? LOOK_MS : -1) < 0 && errno != EINTR) fail("poll");
    if (waits[1].revents) take_packets(fd, queue);
    if (waits[0].revents) {
      ssize_t got = read(STDIN_FILENO, line + have, sizeof line - have - 1);
      if (got <= 0) return 0;
      have += (size_t)got;
      line[have] = 0;
      char *start = line;
      for (char *end; (end = strchr(start, '\n')); start = end + 1) {
        *end = 0;
        obey(start, fd, queue, flows);
      }
      have = strlen(start);
      memmove(line, start, have);
    }
    drop_old(fd, queue);
    fflush(stdout);
  }
}
