-- What did processes do in the second before a signal killed them?
-- Numbers in names of files are # here. last_ms is how long before the end the last such call returned.
WITH last AS (
       SELECT p.exit_signal, c.name, regexp_replace(coalesce(c.path, c.fd_path), '[0-9]+', '#', 'g') AS file, c.errno, c.run, p.end_ns - c.t_ns AS before_ns
       FROM calls c JOIN processes p ON p.run = c.run AND p.proc = c.proc
       WHERE p.exit_signal IS NOT NULL AND c.t_ns > p.end_ns - 1000000000)
SELECT exit_signal, name, file, errno, count(*) AS calls, count(DISTINCT run) AS runs, min(before_ns) / 1e6 AS last_ms
FROM last
GROUP BY exit_signal, name, file, errno
ORDER BY runs DESC, last_ms, calls DESC, exit_signal, name, file
LIMIT 50;
