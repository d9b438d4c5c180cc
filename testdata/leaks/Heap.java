import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Programs whose verdict is known, in Java: java Heap MODE SECONDS [A [B]].
 *
 * list     leak: A KiB a second of arrays in a list
 * direct   leak: A KiB a second of direct buffers
 * threads  leak: A threads a second that wait for ever
 * lru      no leak: a LinkedHashMap of at most A MiB, full after B percent of the time
 * garbage  no leak: A MiB a second of arrays that nothing refers to
 * strings  no leak: builds and splits strings
 */
public class Heap {
	static final long begun = System.nanoTime();
	static double length, a, b;
	static long done;
	static final List<Object> kept = new ArrayList<>();

	static double now() {
		return (System.nanoTime() - begun) / 1e9;
	}

	static void step(String mode, Map<Long, byte[]> lru) {
		double t = now();
		switch (mode) {
		case "list":
			for (; done < t * a; done++)
				kept.add(new byte[1000]);
			break;
		case "direct":
			for (; done < t * a / 64; done++) {
				ByteBuffer d = ByteBuffer.allocateDirect(64 << 10);
				for (int i = 0; i < d.capacity(); i += 1024)
					d.put(i, (byte) 1);
				kept.add(d);
			}
			break;
		case "threads":
			for (; done < t * a; done++) {
				Thread thread = new Thread(() -> {
					try {
						Thread.sleep(1000000);
					} catch (InterruptedException e) {
						return;
					}
				});
				thread.setDaemon(true);
				thread.start();
			}
			break;
		case "lru":
			for (; done < t * a * 1024 / (length * b / 100); done++)
				lru.put(done, new byte[1000]);
			break;
		case "garbage":
			for (; done < t * a * 1024; done++)
				kept.set(0, new byte[1000]);
			break;
		case "strings":
			StringBuilder s = new StringBuilder();
			for (int i = 0; i < 2000; i++)
				s.append(i).append(',');
			done += s.toString().split(",").length;
			break;
		default:
			throw new IllegalArgumentException(mode);
		}
	}

	public static void main(String[] args) throws Exception {
		length = Double.parseDouble(args[1]);
		a = args.length > 2 ? Double.parseDouble(args[2]) : 1;
		b = args.length > 3 ? Double.parseDouble(args[3]) : 1;
		kept.add(null);
		final long most = (long) (a * 1024);
		Map<Long, byte[]> lru = new LinkedHashMap<>() {
			protected boolean removeEldestEntry(Map.Entry<Long, byte[]> e) {
				return size() > most;
			}
		};
		for (; now() < length; Thread.sleep(20))
			step(args[0], lru);
	}
}
