/* SPDX-License-Identifier: Apache-2.0 */
#include "forward/listener.h"

const struct forward_listener_ops *forward_listener_kind(const struct forward_endpoint *host,
                                                         const struct forward_endpoint *guest,
                                                         bool reverse)
{
    if (reverse) {
        return &forward_reverse_ops;
    }
    return host->proto == CONFIG_PROTO_UDP ? &forward_udp_ops : &forward_tcp_ops;
}
