"""Runs what it is posted, as function bodies that return a list; for tests. Port 8080."""
import http.server
import json
import random
import secrets
import ssl
import uuid


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        scope = {"random": random, "secrets": secrets, "ssl": ssl, "uuid": uuid}
        exec("def work():\n" + "".join(f"  {line}\n" for line in body.splitlines()), scope)
        answer = json.dumps({"ok": scope["work"]()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = True

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
