/*
 * Traffic for bench/datapath.py, inside a network namespace that is given as a descriptor.
 *
 *   datapath_load FD serve PORT
 *       accepts TCP connections and closes them, echoes UDP datagrams; prints "ready"
 *   datapath_load FD load ADDRESS COUNT PORT CONNECTIONS PACKETS
 *       CONNECTIONS one after the other, each to one of COUNT addresses from ADDRESS on, chosen by
 *       chance, and PACKETS datagrams there and back on one flow; prints seconds for each
 *
 * Connections end with a reset: that leaves no TIME_WAIT behind, and so no shortage of ports.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in at(uint32_t address, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	a.sin_addr.s_addr = htonl(address);
	return a;
}

static void reset(int fd)
{
	struct linger none = { 1, 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
	close(fd);
}

static void serve(int port)
{
	struct sockaddr_in a = at(INADDR_ANY, port), from;
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
	struct pollfd polled[2] = { { tcp, POLLIN, 0 }, { udp, POLLIN, 0 } };
	char data[2048];

	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(tcp, (void *)&a, sizeof a) || listen(tcp, 4096))
		die("listen");
	if (bind(udp, (void *)&a, sizeof a))
		die("bind");
	puts("ready");
	fflush(stdout);
	while (poll(polled, 2, -1) >= 0) {
		int fd;

		while ((fd = accept(tcp, NULL, NULL)) >= 0)
			reset(fd);
		if (polled[1].revents & POLLIN) {
			socklen_t size = sizeof from;
			ssize_t got = recvfrom(udp, data, sizeof data, 0, (void *)&from, &size);

			if (got >= 0)
				sendto(udp, data, got, 0, (void *)&from, size);
		}
	}
}

static double connections(uint32_t address, uint32_t count, int port, int how_many)
{
	uint32_t chance = 12345;
	double began = now();

	for (int done = 0; done < how_many; done++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		struct sockaddr_in to;

		chance = chance * 1664525u + 1013904223u;
		to = at(address + (uint32_t)(((uint64_t)chance * count) >> 32), port);
		/* On one CPU the server's reset may be there before connect() is back. */
		if (fd < 0 || (connect(fd, (void *)&to, sizeof to) && errno != ECONNRESET))
			die("connect");
		reset(fd);
	}
	return now() - began;
}

static double packets(uint32_t address, int port, int how_many)
{
	struct sockaddr_in to = at(address, port);
	struct timeval patience = { 5, 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char data[64] = { 0 };
	double began = 0;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (fd < 0 || connect(fd, (void *)&to, sizeof to))
		die("connect");
	for (int done = -16; done < how_many; done++) { /* the first ones find the way */
		if (done == 0)
			began = now();
		if (send(fd, data, sizeof data, 0) < 0 || recv(fd, data, sizeof data, 0) < 0)
			die("packet");
	}
	close(fd);
	return now() - began;
}

int main(int count, char **words)
{
	if (count < 4 || setns(atoi(words[1]), CLONE_NEWNET))
		die("setns");
	if (!strcmp(words[2], "serve")) {
		serve(atoi(words[3]));
		return 0;
	}
	if (count < 8)
		return 2;
	uint32_t address = ntohl(inet_addr(words[3]));
	double tcp = connections(address, atoi(words[4]), atoi(words[5]), atoi(words[6]));

	printf("%.9f %.9f\n", tcp, packets(address, atoi(words[5]), atoi(words[7])));
	return 0;
}
