-- Which files cost the most time, over all runs?
-- Numbers in names are # here: those of another run are others. Pipes, sockets and the like are left out.
SELECT regexp_replace(coalesce(fd_path, path), '[0-9]+', '#', 'g') AS file,
       sum(dur_ns) / 1e9 AS seconds, sum(bytes) AS bytes, count(*) AS calls, count(DISTINCT run) AS runs
FROM calls
WHERE class = 'file' AND coalesce(fd_path, path) LIKE '/%'
GROUP BY regexp_replace(coalesce(fd_path, path), '[0-9]+', '#', 'g')
ORDER BY seconds DESC NULLS LAST, file
LIMIT 20;
