# A server for tests: each GET counts one further in memory, in a process of its own and in a file, and answers `MEMORY PROCESS FILE`.
# GET /ticks says how often its timer has fired.
import http.server
import multiprocessing
import os
import socketserver
import threading
import time


def count_in_process(connection):
    count = 0
    while True:
        connection.recv()
        count += 1
        connection.send(count)


def tick():
    while True:
        time.sleep(0.01)
        Server.ticks += 1


class Server(http.server.BaseHTTPRequestHandler):
    counted = 0
    ticks = 0
    lock = threading.Lock()

    def do_GET(self):
        text = str(Server.ticks) if self.path == "/ticks" else self.count()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def count(self):
        with Server.lock:
            Server.counted += 1
            self.server.process.send("count")
            with open("/tmp/counted", "a") as counted:
                counted.write("x")
            return f"{Server.counted} {self.server.process.recv()} {os.stat('/tmp/counted').st_size}"

    def log_message(self, *words):
        pass


class Listener(http.server.ThreadingHTTPServer):
    # The library's own asks a name server for the machine's name first.
    def server_bind(self):
        socketserver.TCPServer.server_bind(self)


if __name__ == "__main__":
    here, there = multiprocessing.Pipe()
    multiprocessing.Process(target=count_in_process, args=(there,), daemon=True).start()
    threading.Thread(target=tick, daemon=True).start()
    server = Listener(("0.0.0.0", 8080), Server)
    server.process = here
    server.serve_forever()
