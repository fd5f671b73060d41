"use strict";
(function () {
  var narrow = "\u202f";
  function whole(value) { return Math.round(value).toLocaleString("en-US"); }
  function fixed(value, digits) {
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }
  function count(value) { return Math.abs(value) < 9.95 ? fixed(value, 1) : whole(value); }
  function share(value) { return fixed(100 * value, 100 * value < 9.95 ? 1 : 0) + narrow + "%"; }
  function rounded(value, digits) { return Number(value.toFixed(digits)); }
  function told(value, digits, signed) {
    var short = rounded(value, digits) || 0;
    return (signed && short > 0 ? "+" : "") + fixed(short, digits).replace("-", "\u2212");
  }
  function ends(low, high, digits, signed) {
    if (low === null || high === null) { return "too few for an interval"; }
    return "[" + told(low, digits, signed) + ", " + told(high, digits, signed) + "]";
  }
  function calls(value) { return value < 10 && value !== Math.round(value) ? fixed(value, 1) : whole(value); }

  /* The slider over capacity. */
  var source = document.getElementById("capacity-data");
  var slider = document.getElementById("capacity-slider");
  if (source && slider) {
    var data = JSON.parse(source.textContent);
    var columns = data.columns;
    var marker = document.getElementById("capacity-marker");
    var places = marker.getAttribute("data-x").split(" ");
    var set = function (id, text) {
      var element = document.getElementById(id);
      if (element) { element.textContent = text; }
    };
    var money = function (value) { return whole(value) + (data.currency ? narrow + data.currency : ""); };
    var show = function () {
      var k = Number(slider.value);
      var at = function (name) { return columns[name] ? columns[name][k] : null; };
      var perWeek = calls(at("per_week"));
      set("capacity-calls", perWeek + " calls a week");
      set("capacity-share", share(at("share")) + " of the list; " + whole(at("calls")) + " calls a quarter");
      var most = Math.max.apply(null, data.who.map(function (who) { return at(who + "_conversions"); }));
      var digits = most < 9.95 ? 1 : 0;
      data.who.forEach(function (who) {
        set(who + "-found", told(at(who + "_conversions"), digits));
        set(who + "-found-ends", ends(at(who + "_conversions_low"), at(who + "_conversions_high"), digits));
        set(who + "-expected", count(at(who + "_expected")));
        set(who + "-precision", share(at(who + "_precision")));
        var found = at(who + "_conversions");
        set(who + "-calls-each", found > 0 ? count(at("calls") / found) + " calls for each" : "none found");
        if (at(who + "_expected_revenue") !== null) { set(who + "-revenue", money(at(who + "_expected_revenue"))); }
        if (at(who + "_revenue") !== null) { set(who + "-brought", "brought " + money(at(who + "_revenue")) + (data.so_far ? " so far" : "")); }
      });
      if (at("gain") !== null) {
        var gain = rounded(at("model_conversions"), digits) - rounded(at("scorecard_conversions"), digits);
        set("gain-found", told(gain, digits, true));
        set("gain-ends", ends(at("gain_low"), at("gain_high"), digits, true));
      }
      marker.setAttribute("transform", "translate(" + places[k] + " 0)");
      var holder = marker.ownerSVGElement.parentElement;
      var drawn = holder.scrollWidth / marker.ownerSVGElement.viewBox.baseVal.width;
      holder.scrollLeft = Number(places[k]) * drawn - holder.clientWidth / 2;
      slider.setAttribute("aria-valuetext", perWeek + " calls a week, " + told(at("model_conversions"), digits) +
        " conversions per quarter");
    };
    slider.addEventListener("input", show);
    show();
  }

  /* Values under the pointer, or step by step with the arrow keys. */
  document.querySelectorAll(".plot").forEach(function (plot) {
    var marks = Array.prototype.slice.call(plot.querySelectorAll("[data-tip]"));
    if (!marks.length) { return; }
    var tip = document.createElement("div");
    tip.className = "tip";
    tip.setAttribute("role", "status");
    plot.appendChild(tip);
    plot.tabIndex = 0;
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", plot.getAttribute("data-label") + "; arrow keys read its values");
    var chosen = -1;
    function box(mark) {
      var inner = mark.getBoundingClientRect(), outer = plot.getBoundingClientRect();
      return { x: inner.left + inner.width / 2 - outer.left, y: inner.top - outer.top, width: outer.width };
    }
    function choose(k) {
      if (chosen >= 0) { marks[chosen].classList.remove("on"); }
      chosen = k;
      if (k < 0) { tip.classList.remove("shown"); return; }
      marks[k].classList.add("on");
      tip.textContent = marks[k].getAttribute("data-tip");
      var place = box(marks[k]);
      tip.style.left = Math.max(0, Math.min(place.width - tip.offsetWidth, place.x - tip.offsetWidth / 2)) + "px";
      tip.style.top = (place.y - tip.offsetHeight - 12) + "px";
      tip.classList.add("shown");
    }
    plot.addEventListener("pointermove", function (event) {
      var left = plot.getBoundingClientRect().left, nearest = 0, distance = Infinity;
      marks.forEach(function (mark, k) {
        var away = Math.abs(box(mark).x - (event.clientX - left));
        if (away < distance) { distance = away; nearest = k; }
      });
      choose(nearest);
    });
    plot.addEventListener("pointerleave", function () { choose(-1); });
    plot.addEventListener("blur", function () { choose(-1); });
    plot.addEventListener("keydown", function (event) {
      var step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        choose(Math.max(0, Math.min(marks.length - 1, chosen < 0 ? (step > 0 ? 0 : marks.length - 1) : chosen + step)));
        event.preventDefault();
      } else if (event.key === "Escape") { choose(-1); }
    });
  });

  /* One segment attribute at a time on the screen, all of them in print. */
  var chooser = document.getElementById("segment-chooser");
  var groups = document.querySelectorAll(".group");
  if (chooser && groups.length > 1) {
    chooser.parentElement.hidden = false;
    var pick = function () {
      groups.forEach(function (group, k) { group.hidden = k !== Number(chooser.value); });
    };
    chooser.addEventListener("change", pick);
    pick();
  }

  /* On paper every table is open. */
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.filter.call(document.querySelectorAll("details:not([open])"), function (each) {
      each.open = true;
      return true;
    });
  });
  window.addEventListener("afterprint", function () { opened.forEach(function (each) { each.open = false; }); });
})();
