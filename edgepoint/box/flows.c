#define _GNU_SOURCE
#include "box.h"
#include "gate.h"

#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_conntrack_tcp.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/*
 * What the kernel's connection tracking knows of flows to instances. A flow's mark is its instance's IPv4 address as a number, so the
 * instances of an edgepoint are those whose marks lie in their subnet.
 *
 * The table says when an entry expires, which is so long after its last packet as the setting for its state says; how long it has been
 * silent follows. A TCP connection that was silent for longer than SILENT_S is not counted as open: whoever is at its other end may have
 * gone without a word, and the default is to remember it for five days.
 */
#define SILENT_S 350
#define LATELY_S 1
#define MOST_MARKS 8192

struct count {
  uint32_t mark;
  unsigned open;  /* TCP connections that stand, UDP flows that went both ways for a while and lately */
  unsigned young; /* others that had a packet lately */
};

struct flow {
  uint32_t mark, status, left_s;
  uint8_t protocol, tcp_state;
};

static uint32_t setting(const char *name, uint32_t otherwise) {
  char path[128];
  snprintf(path, sizeof path, "/proc/sys/net/netfilter/%s", name);
  FILE *file = fopen(path, "re");
  if (!file || fscanf(file, "%u", &otherwise) != 1) errno = 0;
  if (file) fclose(file);
  return otherwise;
}

static void read_flow(const unsigned char *at, const unsigned char *end, struct flow *flow) {
  for (struct attribute outer, inner, innermost; next_attribute(&at, end, &outer);) {
    const unsigned char *in = outer.data, *in_end = outer.data + outer.length;
    if (outer.type == CTA_MARK) flow->mark = number_of(&outer);
    else if (outer.type == CTA_STATUS) flow->status = number_of(&outer);
    else if (outer.type == CTA_TIMEOUT) flow->left_s = number_of(&outer);
    else if (outer.type == CTA_TUPLE_ORIG || outer.type == CTA_PROTOINFO)
      while (next_attribute(&in, in_end, &inner)) {
        const unsigned char *deep = inner.data, *deep_end = inner.data + inner.length;
        while (next_attribute(&deep, deep_end, &innermost)) {
          if (innermost.length == 0) continue;
          if (outer.type == CTA_TUPLE_ORIG && inner.type == CTA_TUPLE_PROTO && innermost.type == CTA_PROTO_NUM) flow->protocol = innermost.data[0];
          if (outer.type == CTA_PROTOINFO && inner.type == CTA_PROTOINFO_TCP && innermost.type == CTA_PROTOINFO_TCP_STATE) flow->tcp_state = innermost.data[0];
        }
      }
  }
}

static void count_flow(const struct flow *flow, struct count *count) {
  static uint32_t established_s, unacknowledged_s, syn_sent_s, syn_recv_s, udp_s, stream_s;
  if (established_s == 0) {
    established_s = setting("nf_conntrack_tcp_timeout_established", 432000);
    unacknowledged_s = setting("nf_conntrack_tcp_timeout_unacknowledged", 300);
    syn_sent_s = setting("nf_conntrack_tcp_timeout_syn_sent", 120);
    syn_recv_s = setting("nf_conntrack_tcp_timeout_syn_recv", 60);
    udp_s = setting("nf_conntrack_udp_timeout", 30);
    stream_s = setting("nf_conntrack_udp_timeout_stream", 120);
  }
  if (flow->protocol == IPPROTO_TCP) {
    if (flow->tcp_state == TCP_CONNTRACK_ESTABLISHED) {
      /* One whose last bytes were not acknowledged expires sooner. */
      count->open += flow->left_s <= unacknowledged_s || flow->left_s + SILENT_S >= established_s;
    } else {
      count->open += flow->tcp_state == TCP_CONNTRACK_FIN_WAIT || flow->tcp_state == TCP_CONNTRACK_CLOSE_WAIT;
      uint32_t whole_s = flow->tcp_state == TCP_CONNTRACK_SYN_SENT ? syn_sent_s : flow->tcp_state == TCP_CONNTRACK_SYN_RECV ? syn_recv_s : UINT32_MAX;
      count->young += whole_s != UINT32_MAX && flow->left_s + LATELY_S >= whole_s;
    }
  } else {
    uint32_t whole_s = flow->status & IPS_ASSURED ? stream_s : udp_s;
    if (flow->left_s + LATELY_S < whole_s) return;
    if (flow->status & IPS_ASSURED) count->open++;
    else count->young++;
  }
}

static struct count *count_of(struct count *counts, size_t *used, uint32_t mark) {
  for (size_t i = 0; i < *used; i++)
    if (counts[i].mark == mark) return &counts[i];
  if (*used == MOST_MARKS) return NULL;
  counts[*used] = (struct count){.mark = mark};
  return &counts[(*used)++];
}

void tell_flows(int fd, uint32_t mark, uint32_t mask) {
  static unsigned char buffer[1 << 16] __attribute__((aligned(8)));
  static struct count counts[MOST_MARKS];
  size_t used = 0;
  struct message message;
  begin_message(&message, (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC, 0);
  add_number(&message, CTA_MARK, mark);
  add_number(&message, CTA_MARK_MASK, mask);
  send_message(fd, &message, "ask for flows");
  for (int done = 0; !done;) {
    ssize_t length = recv(fd, buffer, sizeof buffer, 0);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) fail("read flows");
    for (struct nlmsghdr *header = (struct nlmsghdr *)buffer; NLMSG_OK(header, (size_t)length); header = NLMSG_NEXT(header, length)) {
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) {
        done = 1;
        break;
      }
      struct flow flow = {0};
      read_flow((unsigned char *)header + NLMSG_LENGTH(sizeof(struct nfgenmsg)), (unsigned char *)header + header->nlmsg_len, &flow);
      struct count *count = flow.mark == 0 ? NULL : count_of(counts, &used, flow.mark);
      if (count) count_flow(&flow, count);
    }
  }
  for (size_t i = 0; i < used; i++) printf("flow %u %u %u\n", counts[i].mark, counts[i].open, counts[i].young);
  printf("flows\n");
}

/* The next packet of such a flow is that of a new one. */
void forget_flows(int fd, uint32_t mark) {
  struct message message;
  begin_message(&message, (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, NLM_F_ACK, AF_UNSPEC, 0);
  add_number(&message, CTA_MARK, mark);
  add_number(&message, CTA_MARK_MASK, UINT32_MAX);
  send_message(fd, &message, "forget flows");
  int error = acknowledged(fd, "forget flows");
  if (error && error != -ENOENT) fprintf(stderr, "flows of %u are not forgotten: %s\n", mark, strerror(-error));
  printf("forgot %u\n", mark);
}
