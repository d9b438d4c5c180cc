// A program with functions that are inlined into others, several deep, in branches that
// the compiler moves away, in templates, lambdas and namespaces.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace shop {
namespace {
inline __attribute__((always_inline)) int hash(int x) {
	x ^= x >> 16;
	x *= 0x45d9f3b;
	return x ^ x >> 13;
}
} // namespace

template <int N> struct Basket {
	std::vector<std::string> items;
	int add(const std::string &s) {
		if (s.size() > 100)
			throw std::runtime_error("too long: " + s);
		items.push_back(s);
		return hash(N + (int)items.size());
	}
};

static inline __attribute__((always_inline)) int twice(int x) { return hash(hash(x)); }

__attribute__((noinline)) int total(Basket<3> &b) {
	int n = 0;
	std::sort(b.items.begin(), b.items.end(), [](const std::string &x, const std::string &y) { return twice(x.size()) < twice(y.size()); });
	for (auto &s : b.items)
		n += twice(s.size());
	return n;
}
} // namespace shop

__attribute__((cold, noinline)) static void fail(const char *why) {
	fprintf(stderr, "%s\n", why);
	exit(1);
}

extern "C" __attribute__((noinline)) int plain(int n) {
	std::map<int, int> m;
	for (int i = 0; i < n; i++)
		m[shop::twice(i)] = i;
	if (m.size() > 1000000)
		fail("large");
	return m.begin()->second;
}

int main(int argc, char **argv) {
	shop::Basket<3> b;
	try {
		for (int i = 0; i < argc; i++)
			b.add(argv[i]);
	} catch (const std::exception &e) {
		fail(e.what());
	}
	printf("%d %d\n", shop::total(b), plain(argc + 2));
}
