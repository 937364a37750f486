import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.Executors;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * A small app beside the sidecar: it logs users in, sends them messages and makes mini program codes.
 *
 * <p>It has no AppSecret and no access_token. The sidecar puts them into its calls.
 */
public class App {
    static final String WECHAT = setting("WECHAT_API_BASE_URL", "http://127.0.0.1:7080");
    static final HttpClient CLIENT = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static final Gson GSON = new GsonBuilder().disableHtmlEscaping().create();

    /** The type and the bytes of an answer, of the app's or of WeChat's. */
    record Reply(String type, byte[] content) {}

    /** What the app answers where it cannot do what it was asked. */
    static class Problem extends Exception {
        final int status, errcode;
        final String retryAfter;

        Problem(int status, String error, int errcode, String retryAfter) {
            super(error);
            this.status = status;
            this.errcode = errcode;
            this.retryAfter = retryAfter;
        }

        Problem(int status, String error) {
            this(status, error, 0, null);
        }
    }

    /** POST /login {"code": "…"}: the code is what wx.login gave to the mini program. */
    static Reply login(JsonObject given) throws Problem {
        var code = URLEncoder.encode(text(given, "code"), UTF_8);
        var reply = callWechat("/sns/jscode2session?js_code=" + code + "&grant_type=authorization_code", null);
        // The session_key beside it is for this server alone: do not send it to the mini program.
        return asJson(Map.of("openid", object(reply.content()).get("openid").getAsString()));
    }

    /** POST /notify {"openid": "…", "text": "…"}: a customer service message. */
    static Reply sendMessage(JsonObject given) throws Problem {
        var content = Map.of("content", text(given, "text"));
        callWechat("/cgi-bin/message/custom/send",
                Map.of("touser", text(given, "openid"), "msgtype", "text", "text", content));
        return asJson(Map.of("sent", true));
    }

    /** GET /qr?scene=…: a mini program code, as a picture. */
    static Reply qr(JsonObject given) throws Problem {
        return callWechat("/wxa/getwxacodeunlimit", Map.of("scene", text(given, "scene")));
    }

    /** Sends a GET, or a POST with this body as JSON. */
    static Reply callWechat(String target, Object body) throws Problem {
        var request = HttpRequest.newBuilder(URI.create(WECHAT + target)).timeout(Duration.ofSeconds(40));
        if (body != null) {
            request.header("Content-Type", "application/json").POST(BodyPublishers.ofString(GSON.toJson(body)));
        }
        var path = target.split("\\?")[0];
        HttpResponse<byte[]> reply;
        try {
            reply = CLIENT.send(request.build(), BodyHandlers.ofByteArray());
        } catch (IOException | InterruptedException error) {
            System.err.println(path + ": " + error);
            throw new Problem(502, "no reply from the sidecar");
        }
        // An errcode in the body says that a call failed, whatever its status and its type are.
        var content = reply.body();
        var answer = content.length > 0 && content[0] == '{' ? object(content) : new JsonObject();
        var errcode = answer.has("errcode") ? answer.get("errcode").getAsInt() : 0;
        if (errcode == 0 && reply.statusCode() == 200) {
            return new Reply(reply.headers().firstValue("Content-Type").orElse(""), content);
        }
        var said = "HTTP " + reply.statusCode() + ", errcode " + errcode + ": " + answer.get("errmsg");
        System.err.println(path + ": " + said);
        if (errcode == 40029 || errcode == 40163) {
            // The code of the login is wrong, or was used before.
            throw new Problem(401, "log in again", errcode, null);
        }
        var retryAfter = reply.headers().firstValue("Retry-After");
        if (retryAfter.isPresent()) {
            // The sidecar has sent nothing to WeChat. It says when it is worth another try.
            throw new Problem(503, "try again later", errcode, retryAfter.get());
        }
        // WeChat refused, or it is unknown what became of the call. So it is not sent again.
        throw new Problem(502, "the call failed", errcode, null);
    }

    static String text(JsonObject given, String name) throws Problem {
        JsonElement value = given.get(name);
        if (value == null || !value.isJsonPrimitive() || value.getAsString().isEmpty()) {
            throw new Problem(400, name + " is missing");
        }
        return value.getAsString();
    }

    static JsonObject object(byte[] content) {
        return GSON.fromJson(new String(content, UTF_8), JsonObject.class);
    }

    static Reply asJson(Object value) {
        return new Reply("application/json", GSON.toJson(value).getBytes(UTF_8));
    }

    /** Answers a request by what its path says. */
    static void answer(HttpExchange exchange) throws IOException {
        var status = 200;
        Reply reply;
        try {
            reply = ask(exchange);
        } catch (Problem problem) {
            status = problem.status;
            if (problem.retryAfter != null) {
                exchange.getResponseHeaders().set("Retry-After", problem.retryAfter);
            }
            var told = new JsonObject();
            told.addProperty("error", problem.getMessage());
            if (problem.errcode != 0) {
                told.addProperty("errcode", problem.errcode);
            }
            reply = asJson(told);
        }
        exchange.getResponseHeaders().set("Content-Type", reply.type());
        exchange.sendResponseHeaders(status, reply.content().length);
        exchange.getResponseBody().write(reply.content());
        exchange.close();
    }

    static Reply ask(HttpExchange exchange) throws IOException, Problem {
        return switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
            case "POST /login" -> login(body(exchange));
            case "POST /notify" -> sendMessage(body(exchange));
            case "GET /qr" -> qr(query(exchange));
            default -> throw new Problem(404, "not found");
        };
    }

    static JsonObject body(HttpExchange exchange) throws IOException, Problem {
        try {
            var body = new String(exchange.getRequestBody().readAllBytes(), UTF_8);
            return JsonParser.parseString(body).getAsJsonObject();
        } catch (JsonParseException | IllegalStateException error) {
            throw new Problem(400, "the body is no JSON");
        }
    }

    static JsonObject query(HttpExchange exchange) {
        var query = new JsonObject();
        var raw = exchange.getRequestURI().getRawQuery();
        for (var pair : (raw == null ? "" : raw).split("&")) {
            var equals = pair.indexOf('=');
            if (equals > 0) {
                query.addProperty(pair.substring(0, equals), URLDecoder.decode(pair.substring(equals + 1), UTF_8));
            }
        }
        return query;
    }

    static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    public static void main(String[] words) throws IOException {
        var host = setting("HOST", "127.0.0.1");
        var server = HttpServer.create(new InetSocketAddress(host, Integer.parseInt(setting("PORT", "8080"))), 0);
        server.createContext("/", App::answer);
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
        System.out.println("listening on http://" + host + ":" + server.getAddress().getPort());
    }
}
