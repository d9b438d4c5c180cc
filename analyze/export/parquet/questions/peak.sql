-- Which runs took more memory than their program did a week ago?
-- The peaks of a week's runs, against the median of the week before. There is no answer without runs from then.
WITH newest AS (SELECT max(started) AS t FROM runs),
     usual AS (
       SELECT program, median(peak_rss) AS rss, median(peak_mapped) AS mapped, count(*) AS runs
       FROM runs CROSS JOIN newest
       WHERE started BETWEEN t - INTERVAL 14 DAY AND t - INTERVAL 7 DAY
       GROUP BY program)
SELECT r.run, r.program, r.commit, r.peak_rss, u.rss AS usual_rss, round(r.peak_rss / u.rss, 2) AS rss_times,
       r.peak_mapped, round(r.peak_mapped / u.mapped, 2) AS mapped_times
FROM runs r JOIN usual u ON u.program = r.program CROSS JOIN newest
WHERE r.started > newest.t - INTERVAL 7 DAY AND (r.peak_rss > 1.3 * u.rss OR r.peak_mapped > 1.3 * u.mapped)
ORDER BY rss_times DESC NULLS LAST, mapped_times DESC, r.run
LIMIT 50;
