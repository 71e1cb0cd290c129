/*
 * The least that programming IPVS costs: the same table as bench/ipvs.py's, from C.
 *
 *     ipvs_floor table SERVERS REALS     adds them all, and prints the seconds that took
 *     ipvs_floor weight SERVERS COUNT    changes COUNT weights one by one, and prints the
 *                                        median of the seconds of one
 *
 * From the socket's opening to the last ACK, as a program that has the values and nothing else.
 */
#include "floor.h"

static int by_size(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

static double weights(int servers, int count)
{
	double *took = calloc(count, sizeof(*took));

	for (int round = 0; round < count; round++) {
		int number = round * 7919 % servers;
		double start = now();

		put_real(IPVS_CMD_SET_DEST, VIPS + number, REALS + number * 4, 2 + round % 90, 1);
		took[round] = now() - start;
	}
	qsort(took, count, sizeof(*took), by_size);
	return took[count / 2];
}

int main(int argc, char **argv)
{
	double start = now();

	if (argc != 4) {
		fprintf(stderr, "usage: ipvs_floor table SERVERS REALS | weight SERVERS COUNT\n");
		return 2;
	}
	open_family();
	if (!strcmp(argv[1], "table")) {
		table(atoi(argv[2]), atoi(argv[3]));
		printf("%.6f\n", now() - start);
	} else {
		printf("%.9f\n", weights(atoi(argv[2]), atoi(argv[3])));
	}
	return 0;
}
