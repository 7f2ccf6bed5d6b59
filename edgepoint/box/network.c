#define _GNU_SOURCE
#include "box.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
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
    struct tcmsg discipline;
  } body;
  char attributes[256];
};

static void add_attribute(struct request *request, unsigned short type, const void *data, size_t length) {
  struct rtattr *attribute = (struct rtattr *)((char *)request + NLMSG_ALIGN(request->header.nlmsg_len));
  attribute->rta_type = type;
  attribute->rta_len = (unsigned short)RTA_LENGTH(length);
  if (length > 0) memcpy(RTA_DATA(attribute), data, length);
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

static void set_link(int fd, int index, const unsigned char *mac, unsigned flags, const char *what) {
  struct request request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK}};
  request.body.link = (struct ifinfomsg){.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = IFF_UP | flags, .ifi_change = IFF_UP | IFF_NOARP};
  if (mac) add_attribute(&request, IFLA_ADDRESS, mac, 6);
  send_request(fd, &request, what);
}

static struct in_addr read_address(const char *text) {
  struct in_addr address;
  if (inet_pton(AF_INET, text, &address) != 1) fail("address %s", text);
  return address;
}

static int index_of_eth0(void) {
  int index = (int)if_nametoindex("eth0");
  if (index == 0) fail("no eth0");
  return index;
}

static int open_netlink(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) fail("netlink socket");
  return fd;
}

/*
 * Limits what the link sends to so many bytes a second by a token bucket (tc-tbf(8)): sets one, or changes the one that is there. What is set
 * on a link that is up has the kernel wait until nobody uses the old one, which takes milliseconds; a change does not.
 */
static void limit_link(int fd, int index, uint64_t bytes_per_second, const char *what) {
  struct request request = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)), .nlmsg_type = RTM_NEWQDISC, .nlmsg_flags = NLM_F_CREATE | NLM_F_REPLACE}};
  request.body.discipline = (struct tcmsg){.tcm_family = AF_UNSPEC, .tcm_ifindex = index, .tcm_parent = TC_H_ROOT, .tcm_handle = 0x10000};
  /* A packet before it is cut may be half a megabyte (ip-link(8), gso_max_size); a full queue holds a tenth of a second. */
  uint32_t burst = bytes_per_second / 100 < MOST_PACKET ? MOST_PACKET : (uint32_t)(bytes_per_second / 100);
  uint64_t queue = bytes_per_second / 10 + burst;
  struct tc_tbf_qopt options = {
      .rate = {.linklayer = TC_LINKLAYER_ETHERNET, .rate = bytes_per_second > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes_per_second},
      .limit = queue > UINT32_MAX ? UINT32_MAX : (uint32_t)queue,
  };
  add_attribute(&request, TCA_KIND, "tbf", sizeof "tbf");
  struct rtattr *all = (struct rtattr *)((char *)&request + NLMSG_ALIGN(request.header.nlmsg_len));
  add_attribute(&request, TCA_OPTIONS, NULL, 0);
  add_attribute(&request, TCA_TBF_PARMS, &options, sizeof options);
  if (bytes_per_second > UINT32_MAX) add_attribute(&request, TCA_TBF_RATE64, &bytes_per_second, sizeof bytes_per_second);
  add_attribute(&request, TCA_TBF_BURST, &burst, sizeof burst);
  all->rta_len = (unsigned short)((char *)&request + request.header.nlmsg_len - (char *)all);
  send_request(fd, &request, what);
}

/* The edgepoint's end of the slot's link, before this process enters the slot's network namespace: a descriptor for limit_downlink(). */
int open_downlink(struct box *box, const char *link) {
  int fd = open_netlink();
  box->downlink_index = (int)if_nametoindex(link);
  if (box->downlink_index == 0) fail("no link %s", link);
  limit_link(fd, box->downlink_index, FIRST_BYTES_PER_SECOND, "limit of the link to the instance");
  return fd;
}

/* What comes to the instance; what it sends is limited where its link is prepared. */
void limit_downlink(const struct box *box, int fd) {
  limit_link(fd, box->downlink_index, box->bytes_per_second, "limit of the link to the instance");
  close(fd);
}

static void read_ipv6(const char *text, struct in6_addr *address) {
  if (inet_pton(AF_INET6, text, address) != 1) fail("address %s", text);
}

/* Usable at once: nobody else can have it, so nobody is asked (duplicate address detection would take a second). */
static void change_ipv6_address(const struct box *box, int fd, uint16_t type) {
  struct in6_addr address;
  read_ipv6(box->ipv6_address, &address);
  struct request change = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = type, .nlmsg_flags = type == RTM_NEWADDR ? NLM_F_CREATE : 0}};
  change.body.address = (struct ifaddrmsg){
      .ifa_family = AF_INET6, .ifa_prefixlen = (unsigned char)box->ipv6_prefix_length, .ifa_flags = IFA_F_NODAD, .ifa_index = (unsigned)index_of_eth0()};
  add_attribute(&change, IFA_LOCAL, &address, sizeof address);
  send_request(fd, &change, "IPv6 address");
}

static void prepare_ipv6(const struct box *box, int fd, int index) {
  struct in6_addr gateway;
  read_ipv6(box->ipv6_gateway, &gateway);
  change_ipv6_address(box, fd, RTM_NEWADDR);
  struct request route = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_CREATE}};
  route.body.route = (struct rtmsg){.rtm_family = AF_INET6, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  add_attribute(&route, RTA_GATEWAY, &gateway, sizeof gateway);
  add_attribute(&route, RTA_OIF, &index, sizeof index);
  send_request(fd, &route, "IPv6 default route");
}

/* Takes the hardware address the neighbours know and answers them. */
static void open_network(const struct box *box) {
  struct in_addr address = read_address(box->address);
  /* The hardware address follows from the IPv4 one, so neighbours stay right when an address comes back in another namespace. */
  unsigned char mac[6] = {0x02, 0x45};
  memcpy(mac + 2, &address, 4);
  int fd = open_netlink();
  set_link(fd, index_of_eth0(), mac, 0, "eth0 up");
  if (box->ipv6_address) {
    /* Given while nobody was answered, it has not joined the group that its neighbours ask (RFC 4861, section 7.2.1). */
    change_ipv6_address(box, fd, RTM_DELADDR);
    change_ipv6_address(box, fd, RTM_NEWADDR);
  }
  close(fd);
}

/* Address and routes stand, but what comes in is dropped because it is for another hardware address, and nobody is answered. */
static void prepare_network(const struct box *box) {
  int fd = open_netlink();
  struct in_addr address = read_address(box->address), gateway = read_address(box->gateway);
  int index = index_of_eth0();
  set_link(fd, 1, NULL, 0, "lo up");
  limit_link(fd, index, box->bytes_per_second, "limit of eth0"); /* while it is down */
  set_link(fd, index, NULL, IFF_NOARP, "eth0 up");

  struct request add = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_NEWADDR, .nlmsg_flags = NLM_F_CREATE}};
  add.body.address = (struct ifaddrmsg){.ifa_family = AF_INET, .ifa_prefixlen = (unsigned char)box->prefix_length, .ifa_index = (unsigned)index};
  add_attribute(&add, IFA_LOCAL, &address, 4);
  add_attribute(&add, IFA_ADDRESS, &address, 4);
  send_request(fd, &add, "address");

  struct request route = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_CREATE}};
  route.body.route = (struct rtmsg){.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE, .rtm_type = RTN_UNICAST};
  add_attribute(&route, RTA_GATEWAY, &gateway, 4);
  send_request(fd, &route, "default route");
  if (box->ipv6_address) prepare_ipv6(box, fd, index);
  close(fd);
  /* Inside, every port is an ordinary one: nobody else shares the address. */
  write_text("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

void configure_network(const struct box *box) {
  prepare_network(box);
  open_network(box);
}

/* Moves eth0 from the slot's namespace, where this process is, to that of the process `pid`, and follows it. */
static void move_link(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
  int target = open(path, O_RDONLY | O_CLOEXEC), fd = open_netlink();
  if (target < 0) fail("open %s", path);
  struct request move = {.header = {.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)), .nlmsg_type = RTM_NEWLINK}};
  move.body.link = (struct ifinfomsg){.ifi_family = AF_UNSPEC, .ifi_index = (int)if_nametoindex("eth0")};
  add_attribute(&move, IFLA_NET_NS_FD, &target, sizeof target);
  send_request(fd, &move, "move eth0");
  close(fd);
  if (setns(target, CLONE_NEWNET)) fail("enter %s", path);
  close(target);
}

void give_network(const struct box *box, pid_t pid) {
  move_link(pid);
  configure_network(box);
}

/*
 * Follows a restore whose network namespace belongs to the instance (criu(8), --empty-ns net): CRIU has made an empty one, and this
 * gives it its link and address. The link opens only when the sockets are back: the kernel would answer a packet of a connection it
 * does not know with a reset.
 */
void follow_restore(const struct box *box, const char *step, pid_t pid) {
  if (!strcmp(step, "setup-namespaces")) {
    move_link(pid);
    prepare_network(box);
  } else if (!strcmp(step, "network-unlock")) {
    open_network(box);
  }
}
