document.querySelectorAll("th button").forEach(function (button) {
  button.addEventListener("click", function () {
    var head = button.closest("th"), row = head.parentNode, body = head.closest("table").tBodies[0];
    var column = Array.prototype.indexOf.call(row.cells, head);
    var up = head.getAttribute("aria-sort") === "descending";
    var value = function (line) {
      var cell = line.cells[column];
      return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
    };
    var lines = Array.prototype.slice.call(body.rows);
    lines.sort(function (a, b) {
      var x = value(a), y = value(b);
      var order = typeof x === "number" ? x - y : x.localeCompare(y, undefined, { numeric: true });
      return up ? order : -order;
    });
    Array.prototype.forEach.call(row.cells, function (cell) { cell.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    lines.forEach(function (line) { body.appendChild(line); });
  });
});
