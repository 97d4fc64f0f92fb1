/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of org.example.upper: upper_host ~/.lima/INSTANCE/ga.sock TEXT
 *
 *   protoc -I "$(pkg-config --variable=protodir lima-guest)" --c_out=. guest.proto
 *   cc upper_host.c guest.pb-c.c $(pkg-config --cflags --libs lima-guest libprotobuf-c) -o upper
 */
#include <stdio.h>
#include <lima/guest.h>
#include "guest.pb-c.h"

static int call(const char *path, const char *service)
{
    Lima__Guest__V1__StreamOpen open = LIMA__GUEST__V1__STREAM_OPEN__INIT;
    Lima__Guest__V1__StreamReply *reply;
    uint8_t data[LIMA_MESSAGE_MAX];
    int fd = lima_connect(path);
    ssize_t len;

    open.service = (char *)service;
    if (fd < 0 || lima_send(fd, data, lima__guest__v1__stream_open__pack(&open, data)) < 0 ||
        (len = lima_receive(fd, data, sizeof(data))) < 0) {
        perror(path);
        return -1;
    }
    reply = lima__guest__v1__stream_reply__unpack(NULL, (size_t)len, data);
    if (!reply || reply->error) {
        fprintf(stderr, "%s: %s\n", service, reply ? reply->message : "malformed answer");
        return -1;
    }
    lima__guest__v1__stream_reply__free_unpacked(reply, NULL);
    return fd;
}

int main(int argc, char **argv)
{
    char data[65536];
    ssize_t n;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "Usage: %s SOCKET TEXT\n", argv[0]);
        return 2;
    }
    fd = call(argv[1], "org.example.upper");
    if (fd < 0 || lima_write(fd, argv[2], strlen(argv[2])) < 0 || shutdown(fd, SHUT_WR) < 0) {
        return 1;
    }
    while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
        fwrite(data, 1, (size_t)n, stdout);
    }
    putchar('\n');
    return n < 0;
}
