/* Netlink messages of the gate: gate.c and flows.c. */
#ifndef EDGEPOINT_GATE_H
#define EDGEPOINT_GATE_H

#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

struct message {
  struct nlmsghdr header;
  struct nfgenmsg general;
  unsigned char attributes[256];
};

void begin_message(struct message *message, uint16_t type, uint16_t flags, uint8_t family, uint16_t resource);
void add_data(struct message *message, uint16_t type, const void *data, size_t length);
void add_number(struct message *message, uint16_t type, uint32_t number);
void send_message(int fd, const struct message *message, const char *what);
/* Waits for the kernel's answer; 0, or the negative errno that it says. */
int acknowledged(int fd, const char *what);
int open_netfilter(void);

struct attribute {
  uint16_t type;
  const unsigned char *data;
  size_t length;
};
/* The attributes between `*at` and `end`, one with each call; 0 when there are no more. */
int next_attribute(const unsigned char **at, const unsigned char *end, struct attribute *attribute);
uint32_t number_of(const struct attribute *attribute);

/* flows.c */
void tell_flows(int fd, uint32_t mark, uint32_t mask);
void forget_flows(int fd, uint32_t mark);

#endif
