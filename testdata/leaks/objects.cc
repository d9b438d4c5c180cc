// Programs whose verdict is known, in C++: objects MODE SECONDS [A [B]].
//
//   vector   leak: one vector of A KiB a second, by push_back
//   map      leak: a map that gets A entries a second and loses none
//   strings  leak: B strings of different lengths are lost each tick, A KiB a second
//   lru      no leak: a map with a list, of at most A MiB, full after B percent of the time
//   churn    no leak: vectors and strings of up to A MiB come and go
//   pool     no leak: threads that work through queues of A MiB in bursts
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

static double length, a, b;
static const auto begun = std::chrono::steady_clock::now();

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(); }
static void tick() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

static void vector() {
	std::vector<long> v;
	for (; now() < length; tick())
		while (v.size() * sizeof(long) < now() * a * 1024)
			v.push_back(v.size());
}

static void map() {
	std::map<long, std::string> m;
	for (; now() < length; tick())
		while (m.size() < now() * a)
			m.emplace(m.size() * 7919 % 1000003, std::string(100 + m.size() % 50, 'x'));
}

static void strings() {
	std::mt19937 r(3);
	double lost = 0;
	for (; now() < length; tick())
		while (lost < now() * a * 1024) {
			size_t n = 16 + r() % 4000;
			auto *s = new std::string(n, 'x');
			if (s->size() == 1)
				delete s;
			lost += n + 48;
		}
}

static void lru() {
	std::list<std::pair<long, std::string>> order;
	std::unordered_map<long, decltype(order)::iterator> at;
	long most = a * 1024, done = 0;
	for (; now() < length; tick())
		for (; done < now() * most / (length * b / 100); done++) {
			order.emplace_front(done, std::string(900, 'x'));
			at[done] = order.begin();
			if ((long)order.size() > most) {
				at.erase(order.back().first);
				order.pop_back();
			}
		}
}

static void churn() {
	std::mt19937 r(5);
	std::vector<std::string> kept(64);
	for (; now() < length; tick()) {
		for (int i = 0; i < 20; i++)
			kept[r() % kept.size()] = std::string(r() % (size_t)(a * 1048576 / 64) + 1, 'x');
		std::vector<long> v;
		for (long i = 0; i < (long)(r() % 200000); i++)
			v.push_back(i);
	}
}

static void pool() {
	std::mutex m;
	std::deque<std::string> queue;
	std::vector<std::thread> workers;
	for (int i = 0; i < 4; i++)
		workers.emplace_back([&] {
			while (now() < length) {
				std::string s;
				{
					std::lock_guard<std::mutex> l(m);
					if (!queue.empty()) {
						s = std::move(queue.front());
						queue.pop_front();
					}
				}
				if (s.empty())
					tick();
			}
		});
	while (now() < length) {
		{
			std::lock_guard<std::mutex> l(m);
			while (queue.size() < a * 1048576 / 8192)
				queue.emplace_back(8000, 'x');
		}
		std::this_thread::sleep_for(std::chrono::milliseconds(700));
	}
	for (auto &w : workers)
		w.join();
}

int main(int argc, char **argv) {
	if (argc < 3)
		return 2;
	length = atof(argv[2]);
	a = argc > 3 ? atof(argv[3]) : 1;
	b = argc > 4 ? atof(argv[4]) : 1;
	const std::map<std::string, void (*)()> modes = {{"vector", vector}, {"map", map}, {"strings", strings}, {"lru", lru}, {"churn", churn}, {"pool", pool}};
	auto mode = modes.find(argv[1]);
	if (mode == modes.end())
		return 2;
	mode->second();
}
