/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest tool: serves org.example.upper, which sends text back in capitals. Needs root.
 *
 *   protoc -I "$(pkg-config --variable=protodir lima-guest)" --c_out=. guest.proto
 *   cc upper_guest.c guest.pb-c.c $(pkg-config --cflags --libs lima-guest libprotobuf-c) -o upper
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <lima/guest.h>
#include "guest.pb-c.h"

static int send_message(int fd, const ProtobufCMessage *message)
{
    uint8_t data[LIMA_MESSAGE_MAX];

    return lima_send(fd, data, protobuf_c_message_pack(message, data));
}

/* A connection on which the agent has accepted the call. Ends the program otherwise. */
static int call(const char *service, const ProtobufCMessage *request)
{
    Lima__Guest__V1__StreamOpen open = LIMA__GUEST__V1__STREAM_OPEN__INIT;
    Lima__Guest__V1__StreamReply *reply;
    const char *path = getenv("LIMA_GUEST_SOCKET");
    uint8_t data[LIMA_MESSAGE_MAX];
    int fd = lima_connect(path ? path : LIMA_GUEST_SOCKET);
    ssize_t len;

    open.service = (char *)service;
    if (fd < 0 || send_message(fd, &open.base) < 0 || send_message(fd, request) < 0 ||
        (len = lima_receive(fd, data, sizeof(data))) < 0) {
        perror(service);
        exit(1);
    }
    reply = lima__guest__v1__stream_reply__unpack(NULL, (size_t)len, data);
    if (!reply || reply->error) {
        fprintf(stderr, "%s: %s\n", service, reply ? reply->message : "malformed answer");
        exit(1);
    }
    lima__guest__v1__stream_reply__free_unpacked(reply, NULL);
    return fd;
}

static void serve(uint64_t id)
{
    Lima__Guest__V1__AcceptRequest request = LIMA__GUEST__V1__ACCEPT_REQUEST__INIT;
    char data[65536];
    ssize_t n;
    int fd;

    request.id = id;
    fd = call("Accept", &request.base);
    while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            data[i] = (char)toupper((unsigned char)data[i]);
        }
        if (lima_write(fd, data, (size_t)n) < 0) {
            break; /* the host's program is gone */
        }
    }
    close(fd);
}

int main(void)
{
    Lima__Guest__V1__RegisterRequest request = LIMA__GUEST__V1__REGISTER_REQUEST__INIT;
    uint8_t data[LIMA_MESSAGE_MAX];
    ssize_t len;
    int fd;

    request.service = "org.example.upper";
    fd = call("Register", &request.base);
    puts("serving");
    fflush(stdout);
    while ((len = lima_receive(fd, data, sizeof(data))) >= 0) {
        Lima__Guest__V1__Incoming *incoming =
            lima__guest__v1__incoming__unpack(NULL, (size_t)len, data);

        if (incoming && incoming->kind_case == LIMA__GUEST__V1__INCOMING__KIND_ACCEPTED) {
            serve(incoming->accepted->id); /* one after another */
        }
        lima__guest__v1__incoming__free_unpacked(incoming, NULL);
    }
    return 0;
}
