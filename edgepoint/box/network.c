#define _GNU_SOURCE
#include "box.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The pooled namespace holds an eth0 that is down; here it gets its address, by rtnetlink(7). */
struct request {
  struct nlmsghdr header;
  union {
    struct ifinfomsg link;
    struct ifaddrmsg address;
    struct rtmsg route;
  } body;
  char attributes[256];
};

static void add_attribute(struct request *request, unsigned short type, const void *data, size_t length) {
  struct rtattr *attribute = (struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  memcpy(RTA_DATA(attribute), data, length);
  request->header.nlmsg_len = NLMSG_ALIGN(request->header.nlmsg_len) + (unsigned)RTA_ALIGN(attribute->rta_len);
}

static void send_request(int fd, struct request *request, const char *what) {
  struct {
    struct nlmsghdr header;
    struct nlmsgerr error;
    char rest[512];
  } answer;
  request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
  if (send(fd, request, request->header.nlmsg_len, 0) < 0) fail("%s", what);
  ssize_t length = recv(fd, &answer, sizeof answer, 0);
  if (length < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.header.nlmsg_type != NLMSG_ERROR) fail("%s: no answer", what);
  if (answer.error.error && answer.error.error != -EEXIST) {
    errno = -answer.error.error;
    fail("%s", what);
  }
}

static void set_link(int fd, int index, const unsigned char *mac, const char *what) {
  struct request request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK}};
  request.body.link = (struct ifinfomsg){.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
  if (mac) add_attribute(&request, IFLA_ADDRESS, mac, 6);
  send_request(fd, &request, what);
}

void configure_network(const struct box *box) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("netlink socket");
  struct in_addr address, gateway;
  if (inet_pton(AF_INET, box->address, &address) != 1 || inet_pton(AF_INET, box->gateway, &gateway) != 1) fail("address %s", box->address);
  int index = (int)if_nametoindex("eth0");
  if (index == 0) fail("no eth0");
  /* The hardware address follows from the IPv4 one, so neighbours stay right when an address comes back in another namespace. */
  unsigned char mac[6] = {0x02, 0x45};
  memcpy(mac + 2, &address, 4);
  set_link(fd, 1, NULL, "lo up");
  set_link(fd, index, mac, "eth0 up");

  struct request add = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_CREATE}};
  add.body.address = (struct ifaddrmsg){.ifa_family = AF_INET, .ifa_prefixlen = (unsigned char)box->prefix_length, .ifa_index = (unsigned)index};
  add_attribute(&add, IFA_LOCAL, &address, 4);
  add_attribute(&add, IFA_ADDRESS, &address, 4);
  send_request(fd, &add, "address");

  struct request route = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_CREATE}};
  route.body.route = (struct rtmsg){.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  add_attribute(&route, RTA_GATEWAY, &gateway, 4);
  send_request(fd, &route, "default route");
  close(fd);
  /* Inside, every port is an ordinary one: nobody else shares the address. */
  write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/* Moves eth0 from the slot's namespace, where this process is, to that of the process `pid`, follows it and sets it up there. */
void give_network(const struct box *box, pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
  int target = open(path, O_RDONLY | O_CLOEXEC), fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (target < 0 || fd < 0) fail("open %s", path);
  struct request move = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK}};
  move.body.link = (struct ifinfomsg){.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex("eth0")};
  add_attribute(&move, IFLA_NET_NS_FD, &target, sizeof target);
  send_request(fd, &move, "move eth0");
  close(fd);
  if (setns(target, CLONE_NEWNET)) fail("enter %s", path);
  close(target);
  configure_network(box);
}

/*
 * CRIU's action script of a restore whose network namespace belongs to the instance (criu(8), --empty-ns net): CRIU has made an
 * empty one, and this gives it its link and address, which come in the environment. Other steps are none of its business.
 */
int set_up_restored_network(const char *action) {
  if (strcmp(action, "setup-namespaces")) return 0;
  struct box box = {.address = getenv("EDGEPOINT_ADDRESS"), .gateway = getenv("EDGEPOINT_GATEWAY")};
  const char *prefix_length = getenv("EDGEPOINT_PREFIX_LENGTH"), *pid = getenv("CRTOOLS_INIT_PID");
  if (!box.address || !box.gateway || !prefix_length || !pid) fail("the environment lacks an address or a process");
  box.prefix_length = atoi(prefix_length);
  give_network(&box, (pid_t)atoi(pid));
  return 0;
}
