"""A server that answers as Kubeflow Pipelines' (v2beta1) does, over real sockets, with faults to order.

It is as strict as the real one: an unknown field or query key is a 400, a name that is taken a 409.
"""

import collections
import dataclasses
import email.parser
import email.policy
import http.server
import itertools
import json
import re
import socket
import ssl
import threading
import urllib.parse

API = "/pipeline/apis/v2beta1"
_LISTING = {"page_token", "page_size", "sort_by", "filter", "namespace"}
# What backend/api/v2beta1/swagger/kfp_api_single_file.swagger.json allows: query keys and, for a POST, fields of the
# body that are no outputs.
_RUN = {"display_name", "description", "experiment_id", "pipeline_version_reference", "runtime_config"}
_RECURRING = _RUN | {"max_concurrency", "mode", "no_catchup", "service_account", "trigger"}
ROUTES = {
    ("GET", "/experiments"): (_LISTING, ()),
    ("POST", "/experiments"): ((), {"display_name", "description", "namespace"}),
    ("GET", "/pipelines"): (_LISTING, ()),
    ("POST", "/pipelines"): ((), {"display_name", "name", "description", "namespace", "tags"}),
    ("POST", "/pipelines/upload_version"): ({"name", "display_name", "pipelineid", "description"}, None),
    ("GET", "/pipelines/{}/versions"): (_LISTING - {"namespace"}, ()),
    ("GET", "/pipelines/{}/versions/{}"): ((), ()),
    ("GET", "/runs"): (_LISTING | {"experiment_id"}, ()),
    ("GET", "/runs/{}"): ({"experiment_id"}, ()),
    ("POST", "/runs"): ({"experiment_id"}, _RUN),
    ("GET", "/recurringruns"): (_LISTING | {"experiment_id"}, ()),
    ("POST", "/recurringruns"): ((), _RECURRING),
}
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13}


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


@dataclasses.dataclass
class Fault:
    """Strikes a request once: a status with headers, or the connection dropped before or after the work is done."""

    method: str
    path: str
    status: int = 0
    drop: str = ""
    headers: dict = dataclasses.field(default_factory=dict)


class Kfp:
    """The state behind the API, and the requests that reached it."""

    def __init__(self, token=""):
        self.token = token
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.stored: dict[str, dict[str, dict]] = collections.defaultdict(dict)
        self.uploads: dict[str, bytes] = {}
        self.states = collections.deque()
        self.page_size = 100
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def count(self, method, path):
        return self.requests.count((method, path))

    def fault(self, method, path):
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if (fault.method, fault.path) == (method, path):
                    self.faults.remove(fault)
                    return fault
        return None

    def add(self, kind, id_field, made, unique):
        with self._lock:
            for other in self.stored[kind].values():
                if unique and all(other.get(field) == made.get(field) for field in unique):
                    raise Refused(409, f"Already exist error: {made[unique[0]]}")
            made = {id_field: f"{kind}-{next(self._ids)}", **made}
            self.stored[kind][made[id_field]] = made
            return made

    def one(self, kind, key):
        if key not in self.stored[kind]:
            raise Refused(404, f"{kind} {key} not found")
        return self.stored[kind][key]

    def page(self, kind, query, keep):
        """A page of a listing; the filter's names are the ones that the real server knows."""
        rows = [row for row in self.stored[kind].values() if keep(row)]
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", ()):
            if set(predicate) != {"key", "operation", "string_value"} or predicate["operation"] != "EQUALS":
                raise Refused(400, f"failed to parse valid filter from {predicate}")
            # As MySQL's default collation: letters' case does not tell names apart.
            rows = [row for row in rows if row.get(predicate["key"], "").lower() == predicate["string_value"].lower()]
        start, size = int(query.get("page_token") or 0), min(int(query.get("page_size") or 20), self.page_size)
        more = {"next_page_token": str(start + size)} if start + size < len(rows) else {}
        return {kind: rows[start : start + size], "total_size": len(rows), **more}

    def recur(self, body):
        """As `toModelJob` of the real one: how many at a time, whether it is on, and a cron with a field of seconds."""
        self.one("experiments", body["experiment_id"])
        self.one("pipeline_versions", body["pipeline_version_reference"]["pipeline_version_id"])
        if not 1 <= int(body["max_concurrency"]) <= 10 or body["mode"] not in ("ENABLE", "DISABLE"):
            raise Refused(400, "Max concurrency must be at least 1 and at most 10, and the mode known")
        if len(body["trigger"]["cron_schedule"]["cron"].split()) not in (5, 6):
            raise Refused(400, "Schedule cron is not a supported format")
        return self.add("recurringRuns", "recurring_run_id", {**body, "status": "ENABLED"}, ())

    def answer(self, method, route, keys, query, body, files):
        def in_namespace(row):
            return row.get("namespace", "") == query.get("namespace", "")

        if (method, route) == ("GET", "/experiments"):
            return self.page("experiments", query, in_namespace)
        if (method, route) == ("POST", "/experiments"):
            return self.add("experiments", "experiment_id", body, ("display_name", "namespace"))
        if (method, route) == ("GET", "/pipelines"):
            return self.page("pipelines", query, in_namespace)
        if (method, route) == ("POST", "/pipelines"):
            made = {**body, "name": body.get("name") or body["display_name"]}
            return self.add("pipelines", "pipeline_id", made, ("name", "namespace"))
        if (method, route) == ("POST", "/pipelines/upload_version"):
            self.one("pipelines", query["pipelineid"])
            made = {"pipeline_id": query["pipelineid"], "name": query["name"], "display_name": query["name"]}
            made = self.add("pipeline_versions", "pipeline_version_id", made, ("name", "pipeline_id"))
            self.uploads[made["pipeline_version_id"]] = files["uploadfile"]
            return made
        if route == "/pipelines/{}/versions":
            return self.page("pipeline_versions", query, lambda row: row["pipeline_id"] == keys[0])
        if route == "/pipelines/{}/versions/{}":
            return self.one("pipeline_versions", keys[1])
        if (method, route) == ("GET", "/runs"):
            return self.page("runs", query, lambda row: row["experiment_id"] == query["experiment_id"])
        if (method, route) == ("POST", "/runs"):
            self.one("experiments", body["experiment_id"])
            self.one("pipeline_versions", body["pipeline_version_reference"]["pipeline_version_id"])
            return self.add("runs", "run_id", {**body, "state": "PENDING"}, ())
        if (method, route) == ("GET", "/recurringruns"):
            return self.page("recurringRuns", query, lambda row: row["experiment_id"] == query["experiment_id"])
        if (method, route) == ("POST", "/recurringruns"):
            return self.recur(body)
        run = self.one("runs", keys[0])
        if self.states:
            run.update(self.states.popleft())
        return run


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self._handle("GET")

    def do_POST(self):
        self._handle("POST")

    def _handle(self, method):
        kfp = self.server.kfp
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        path = address.path.removeprefix(API)
        fault = kfp.fault(method, path)
        if fault and fault.drop == "before":
            return self._drop()
        if fault and fault.status:
            return self._send(fault.status, {"message": "ordered by the test"}, fault.headers)
        try:
            answer = 200, self._answer(method, path, urllib.parse.parse_qs(address.query), content)
        except Refused as refused:
            body = {"code": _CODES[refused.status], "message": str(refused), "details": []}
            answer = refused.status, {"error_message": str(refused)} if "upload" in path else body
        return self._drop() if fault else self._send(*answer)

    def _answer(self, method, path, query, content):
        if self.server.kfp.token and self.headers.get("Authorization") != f"Bearer {self.server.kfp.token}":
            raise Refused(401, "Request header error: there is no user identity header.")
        route, keys = self._route(method, path)
        allowed, fields = ROUTES[method, route]
        body, files = None, {}
        if method == "POST" and fields is None:
            files = self._files(content)
        elif method == "POST":
            body = json.loads(content)
            if set(body) - fields:
                raise Refused(400, f"unknown fields {sorted(set(body) - fields)}")
        if set(query) - set(allowed):
            raise Refused(400, f"unknown query {sorted(set(query) - set(allowed))}")
        return self.server.kfp.answer(method, route, keys, {key: one[0] for key, one in query.items()}, body, files)

    @staticmethod
    def _route(method, path):
        for asked, route in ROUTES:
            match = re.fullmatch(route.replace("{}", "([^/]+)"), path)
            if asked == method and match:
                return route, match.groups()
        raise Refused(404, "Not Found")

    def _files(self, content):
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = email.parser.BytesParser(policy=email.policy.default).parsebytes(head + content)
        return {part.get_param("name", header="content-disposition"): part.get_content() for part in parts.iter_parts()}

    def _send(self, status, body, headers=()):
        content = json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **dict(headers)}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _drop(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


class Server:
    """A running server; `address` is what to give as --endpoint."""

    def __init__(self, kfp: Kfp, tls: ssl.SSLContext | None = None):
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.kfp = kfp
        self._http.handle_error = lambda *_: None  # a dropped connection is what was ordered
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.address = f"{'https' if tls else 'http'}://localhost:{self._http.server_port}/pipeline"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
