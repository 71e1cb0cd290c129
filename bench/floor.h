/*
 * What the floors share: netlink messages packed by hand, BATCH to a send, and only the last of a
 * batch asks for an ACK; and the IPVS table that all of them make.
 */
#ifndef HAIRPIN_FLOOR_H
#define HAIRPIN_FLOOR_H

#include <arpa/inet.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, ROOM = 65536, VIPS = 0x0A600000, REALS = 0x0AF40000 };

static char out[ROOM], in[ROOM];
static size_t used;
static uint32_t sequence;
static int family, sock;

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Begins a message whose fixed part, after netlink's own header, has that size. */
static inline struct nlmsghdr *begin_sized(int type, size_t fixed)
{
	struct nlmsghdr *head = (struct nlmsghdr *)(out + used);

	memset(head, 0, NLMSG_HDRLEN + NLMSG_ALIGN(fixed));
	head->nlmsg_len = NLMSG_HDRLEN + NLMSG_ALIGN(fixed);
	head->nlmsg_type = type;
	head->nlmsg_flags = NLM_F_REQUEST;
	head->nlmsg_seq = ++sequence;
	return head;
}

static inline struct nlmsghdr *begin(int type, int command)
{
	struct nlmsghdr *head = begin_sized(type, GENL_HDRLEN);
	struct genlmsghdr *generic = NLMSG_DATA(head);

	generic->cmd = command;
	generic->version = IPVS_GENL_VERSION;
	return head;
}

static inline struct nlattr *put(struct nlmsghdr *head, int type, const void *data, size_t size)
{
	struct nlattr *attribute = (struct nlattr *)((char *)head + head->nlmsg_len);

	attribute->nla_type = type;
	attribute->nla_len = NLA_HDRLEN + size;
	memset((char *)attribute + NLA_HDRLEN, 0, NLA_ALIGN(size));
	if (size)
		memcpy((char *)attribute + NLA_HDRLEN, data, size);
	head->nlmsg_len += NLA_HDRLEN + NLA_ALIGN(size);
	return attribute;
}

static inline void put_u8(struct nlmsghdr *head, int type, uint8_t value)
{
	put(head, type, &value, sizeof(value));
}

static inline void put_u16(struct nlmsghdr *head, int type, uint16_t value)
{
	put(head, type, &value, sizeof(value));
}

static inline void put_u32(struct nlmsghdr *head, int type, uint32_t value)
{
	put(head, type, &value, sizeof(value));
}

static inline void put_address(struct nlmsghdr *head, int type, uint32_t address)
{
	uint32_t both_families[4] = { htonl(address) };

	put(head, type, both_families, sizeof(both_families));
}

static inline void close_nest(struct nlmsghdr *head, struct nlattr *nest)
{
	nest->nla_len = (char *)head + head->nlmsg_len - (char *)nest;
}

static inline struct nlattr *put_key(struct nlmsghdr *head, uint32_t vip)
{
	struct nlattr *nest = put(head, IPVS_CMD_ATTR_SERVICE | NLA_F_NESTED, NULL, 0);

	put_u16(head, IPVS_SVC_ATTR_AF, AF_INET);
	put_u16(head, IPVS_SVC_ATTR_PROTOCOL, IPPROTO_TCP);
	put_address(head, IPVS_SVC_ATTR_ADDR, vip);
	put_u16(head, IPVS_SVC_ATTR_PORT, htons(80));
	return nest;
}

/* Waits for the ACK of the last message; any error ends the program. */
static inline void finish(void)
{
	for (;;) {
		ssize_t size = recv(sock, in, sizeof(in), 0);
		struct nlmsghdr *head = (struct nlmsghdr *)in;

		if (size < 0)
			die("recv");
		for (; NLMSG_OK(head, size); head = NLMSG_NEXT(head, size)) {
			struct nlmsgerr *verdict = NLMSG_DATA(head);

			if (head->nlmsg_type != NLMSG_ERROR)
				continue;
			if (verdict->error) {
				fprintf(stderr, "message %u: error %d\n", head->nlmsg_seq, -verdict->error);
				exit(1);
			}
			if (head->nlmsg_seq == sequence)
				return;
		}
	}
}

static inline void end(struct nlmsghdr *head, int last)
{
	used += NLMSG_ALIGN(head->nlmsg_len);
	if (!last)
		return;
	head->nlmsg_flags |= NLM_F_ACK;
	if (send(sock, out, used, 0) != (ssize_t)used)
		die("send");
	used = 0;
	finish();
}

static inline void open_socket(int protocol)
{
	sock = socket(AF_NETLINK, SOCK_RAW, protocol);
	if (sock < 0)
		die("socket");
}

static inline void open_family(void)
{
	static const char name[] = IPVS_GENL_NAME;
	struct nlmsghdr *head;
	struct nlattr *attribute;
	ssize_t left;

	open_socket(NETLINK_GENERIC);
	head = begin(GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	put(head, CTRL_ATTR_FAMILY_NAME, name, sizeof(name));
	if (send(sock, out, head->nlmsg_len, 0) < 0 || recv(sock, in, sizeof(in), 0) < 0)
		die("asking for IPVS");
	head = (struct nlmsghdr *)in;
	attribute = (struct nlattr *)(in + NLMSG_HDRLEN + GENL_HDRLEN);
	left = head->nlmsg_len - NLMSG_HDRLEN - GENL_HDRLEN;
	while (left > 0) {
		if (attribute->nla_type == CTRL_ATTR_FAMILY_ID)
			family = *(uint16_t *)((char *)attribute + NLA_HDRLEN);
		left -= NLA_ALIGN(attribute->nla_len);
		attribute = (struct nlattr *)((char *)attribute + NLA_ALIGN(attribute->nla_len));
	}
	if (!family) {
		fprintf(stderr, "no IPVS\n");
		exit(1);
	}
}

static inline void add_server(uint32_t vip, int last)
{
	struct ip_vs_flags flags = { 0, ~0U };
	struct nlmsghdr *head = begin(family, IPVS_CMD_NEW_SERVICE);
	struct nlattr *nest = put_key(head, vip);

	put(head, IPVS_SVC_ATTR_SCHED_NAME, "rr", 3);
	put(head, IPVS_SVC_ATTR_FLAGS, &flags, sizeof(flags));
	put_u32(head, IPVS_SVC_ATTR_TIMEOUT, 0);
	put_u32(head, IPVS_SVC_ATTR_NETMASK, ~0U);
	close_nest(head, nest);
	end(head, last);
}

static inline void put_real(int command, uint32_t vip, uint32_t address, uint32_t weight, int last)
{
	struct nlmsghdr *head = begin(family, command);
	struct nlattr *nest = put_key(head, vip);

	close_nest(head, nest);
	nest = put(head, IPVS_CMD_ATTR_DEST | NLA_F_NESTED, NULL, 0);
	put_u16(head, IPVS_DEST_ATTR_ADDR_FAMILY, AF_INET);
	put_address(head, IPVS_DEST_ATTR_ADDR, address);
	put_u16(head, IPVS_DEST_ATTR_PORT, htons(8080));
	put_u32(head, IPVS_DEST_ATTR_FWD_METHOD, 0);
	put_u32(head, IPVS_DEST_ATTR_WEIGHT, weight);
	put_u32(head, IPVS_DEST_ATTR_U_THRESH, 0);
	put_u32(head, IPVS_DEST_ATTR_L_THRESH, 0);
	close_nest(head, nest);
	end(head, last);
}

/* Every virtual server of the table with its real servers, in the order of their numbers. */
static inline void table(int servers, int reals)
{
	int total = servers * (reals + 1), sent = 0;

	for (int number = 0; number < servers; number++) {
		sent++;
		add_server(VIPS + number, sent % BATCH == 0 || sent == total);
		for (int other = 0; other < reals; other++) {
			sent++;
			put_real(IPVS_CMD_NEW_DEST, VIPS + number, REALS + number * reals + other, 1,
				 sent % BATCH == 0 || sent == total);
		}
	}
}

#endif
