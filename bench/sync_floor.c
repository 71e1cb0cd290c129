/*
 * The least that a proxy's full sync and a restart cost, from C: bench/sync.py's Services.
 *
 *     sync_floor fill SERVERS REALS LOCAL    makes everything, prints the seconds by kind
 *     sync_floor dump                        reads everything, prints the seconds by kind
 *
 * Everything is what IPVS mode keeps of each Service: the virtual server and its real servers; an
 * address on the dummy link kube-ipvs0; a member of KUBE-CLUSTER-IP, of KUBE-IPVS-IPS, and LOCAL
 * members of KUBE-LOOP-BACK.  iptables is left out: its rules do not grow with the Services.
 * From each socket's opening to the last answer.
 */
#include "floor.h"

#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netfilter/ipset/ip_set.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

static const char LINK[] = "kube-ipvs0", CLUSTER_IP[] = "KUBE-CLUSTER-IP",
		  IPS[] = "KUBE-IPVS-IPS", LOOP_BACK[] = "KUBE-LOOP-BACK";
static const char *const SETS[] = { CLUSTER_IP, IPS, LOOP_BACK };

static struct nlmsghdr *begin_set(int command, const char *name)
{
	struct nlmsghdr *head = begin_sized(NFNL_SUBSYS_IPSET << 8 | command, sizeof(struct nfgenmsg));
	struct nfgenmsg *own = NLMSG_DATA(head);

	own->nfgen_family = AF_INET;
	own->version = NFNETLINK_V0;
	put_u8(head, IPSET_ATTR_PROTOCOL, 6);
	put(head, IPSET_ATTR_SETNAME, name, strlen(name) + 1);
	return head;
}

static void create_set(const char *name, const char *type)
{
	struct nlmsghdr *head = begin_set(IPSET_CMD_CREATE, name);

	put(head, IPSET_ATTR_TYPENAME, type, strlen(type) + 1);
	put_u8(head, IPSET_ATTR_REVISION, 1);
	put_u8(head, IPSET_ATTR_FAMILY, AF_INET);
	close_nest(head, put(head, IPSET_ATTR_DATA | NLA_F_NESTED, NULL, 0));
	end(head, 1);
}

static void put_set_ip(struct nlmsghdr *head, int type, uint32_t address)
{
	struct nlattr *nest = put(head, type | NLA_F_NESTED, NULL, 0);

	put_u32(head, IPSET_ATTR_IPADDR_IPV4 | NLA_F_NET_BYTEORDER, htonl(address));
	close_nest(head, nest);
}

static void add_entry(const char *name, uint32_t address, int port, uint32_t second, int last)
{
	struct nlmsghdr *head = begin_set(IPSET_CMD_ADD, name);
	struct nlattr *nest = put(head, IPSET_ATTR_DATA | NLA_F_NESTED, NULL, 0);

	put_set_ip(head, IPSET_ATTR_IP, address);
	if (port) {
		put_u16(head, IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, htons(port));
		put_u8(head, IPSET_ATTR_PROTO, IPPROTO_TCP);
	}
	if (second)
		put_set_ip(head, IPSET_ATTR_IP2, second);
	put_u32(head, IPSET_ATTR_LINENO | NLA_F_NET_BYTEORDER, htonl(1));
	close_nest(head, nest);
	end(head, last);
}

static double fill_sets(int servers, int reals, int local)
{
	double start = now();
	int total = servers * (2 + local), sent = 0;

	open_socket(NETLINK_NETFILTER);
	create_set(CLUSTER_IP, "hash:ip,port");
	create_set(IPS, "hash:ip");
	create_set(LOOP_BACK, "hash:ip,port,ip");
#define LAST (++sent % BATCH == 0 || sent == total)
	for (int number = 0; number < servers; number++) {
		add_entry(CLUSTER_IP, VIPS + number, 80, 0, LAST);
		for (int other = 0; other < local; other++) {
			uint32_t real = REALS + number * reals + other;

			add_entry(LOOP_BACK, real, 8080, real, LAST);
		}
	}
	for (int number = 0; number < servers; number++)
		add_entry(IPS, VIPS + number, 0, 0, LAST);
	close(sock);
	return now() - start;
}

static double fill_addresses(int servers)
{
	double start = now();
	struct nlmsghdr *head;
	struct nlattr *nest;
	unsigned int index;

	open_socket(NETLINK_ROUTE);
	head = begin_sized(RTM_NEWLINK, sizeof(struct ifinfomsg));
	head->nlmsg_flags |= NLM_F_CREATE;
	put(head, IFLA_IFNAME, LINK, sizeof(LINK));
	nest = put(head, IFLA_LINKINFO | NLA_F_NESTED, NULL, 0);
	put(head, IFLA_INFO_KIND, "dummy", 5);
	close_nest(head, nest);
	end(head, 1);
	index = if_nametoindex(LINK);
	for (int number = 0; number < servers; number++) {
		struct ifaddrmsg *own;
		uint32_t address = htonl(VIPS + number);

		head = begin_sized(RTM_NEWADDR, sizeof(*own));
		head->nlmsg_flags |= NLM_F_CREATE;
		own = NLMSG_DATA(head);
		own->ifa_family = AF_INET;
		own->ifa_prefixlen = 32;
		own->ifa_index = index;
		put(head, IFA_LOCAL, &address, sizeof(address));
		put(head, IFA_ADDRESS, &address, sizeof(address));
		end(head, (number + 1) % BATCH == 0 || number + 1 == servers);
	}
	close(sock);
	return now() - start;
}

static double fill_servers(int servers, int reals)
{
	double start = now();

	open_family();
	table(servers, reals);
	close(sock);
	return now() - start;
}

/* Sends a dump and reads it to its end; gives how many messages it had.  "each" may keep them. */
static int dump(struct nlmsghdr *head, void (*each)(struct nlmsghdr *))
{
	static char answer[ROOM];
	int count = 0;

	head->nlmsg_flags |= NLM_F_DUMP;
	if (send(sock, head, head->nlmsg_len, 0) < 0)
		die("send");
	used = 0;
	for (;;) {
		ssize_t size = recv(sock, answer, sizeof(answer), 0);
		struct nlmsghdr *one = (struct nlmsghdr *)answer;

		if (size < 0)
			die("recv");
		for (; NLMSG_OK(one, size); one = NLMSG_NEXT(one, size)) {
			if (one->nlmsg_type == NLMSG_DONE)
				return count;
			if (one->nlmsg_type == NLMSG_ERROR) {
				fprintf(stderr, "dump: error\n");
				exit(1);
			}
			count++;
			if (each)
				each(one);
		}
	}
}

static uint32_t vips[1 << 16];
static int vip_count;

/* The address is the third attribute of the one that nests all (ip_vs_genl_fill_service). */
static void keep_vip(struct nlmsghdr *one)
{
	char *at = (char *)NLMSG_DATA(one) + GENL_HDRLEN + NLA_HDRLEN + 2 * (NLA_HDRLEN + 4);

	vips[vip_count++] = ntohl(*(uint32_t *)(at + NLA_HDRLEN));
}

static double dump_servers(int *reals)
{
	double start = now();

	open_family();
	dump(begin(family, IPVS_CMD_GET_SERVICE), keep_vip);
	for (int number = 0; number < vip_count; number++) {
		struct nlmsghdr *head = begin(family, IPVS_CMD_GET_DEST);

		close_nest(head, put_key(head, vips[number]));
		*reals += dump(head, NULL);
	}
	close(sock);
	return now() - start;
}

static double dump_addresses(int *count)
{
	double start = now();
	struct nlmsghdr *head;

	open_socket(NETLINK_ROUTE);
	head = begin_sized(RTM_GETADDR, sizeof(struct ifaddrmsg));
	*count = dump(head, NULL);
	close(sock);
	return now() - start;
}

static double dump_sets(void)
{
	double start = now();

	open_socket(NETLINK_NETFILTER);
	for (size_t number = 0; number < sizeof(SETS) / sizeof(*SETS); number++)
		dump(begin_set(IPSET_CMD_LIST, SETS[number]), NULL);
	close(sock);
	return now() - start;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "fill")) {
		int servers = atoi(argv[2]), reals = atoi(argv[3]);
		double sets = fill_sets(servers, reals, atoi(argv[4]));
		double ipvs = fill_servers(servers, reals);

		printf("%.6f %.6f %.6f\n", ipvs, fill_addresses(servers), sets);
	} else if (argc == 2 && !strcmp(argv[1], "dump")) {
		int reals = 0, addresses = 0;
		double ipvs = dump_servers(&reals), links = dump_addresses(&addresses);

		printf("%.6f %.6f %.6f %d %d %d\n", ipvs, links, dump_sets(), vip_count, reals,
		       addresses);
	} else {
		fprintf(stderr, "usage: sync_floor fill SERVERS REALS LOCAL | dump\n");
		return 2;
	}
	return 0;
}
