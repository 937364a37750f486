import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import javax.net.ssl.SSLException;

/** Calls each host:port of the command line, and says whether its certificate is trusted. */
public class Client {
    public static void main(String[] targets) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (String target : targets) {
            URI uri = URI.create("https://" + target + "/");
            try {
                client.send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString());
                System.out.println("accepted");
            } catch (SSLException error) {
                System.out.println("refused: " + error);
            }
        }
    }
}
